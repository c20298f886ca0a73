//! The `nexmark` connector: persons, auctions and bids of an auction site, as the Nexmark benchmark
//! generates them: of 50 events one is a person, three are auctions and 46 are bids; most bids go to
//! a few hot auctions and come from a few hot bidders.
//!
//! Every value follows from the number of its event and its column, so that events can be split over
//! subtasks, columns left out, and a restart goes on with the very same events.
//!
//! Without the option `table`, a table holds all events in the columns `event_type` (0 person, 1
//! auction, 2 bid), `person`, `auction` and `bid` (rows, of which one is not NULL) and `dateTime`. With
//! `table` = `bid`, `auction` or `person` it holds only those, their fields as columns. Columns may
//! be left out and come in any order.
//!
//! | module | what |
//! | --- | --- |
//! | [`model`] | event numbers to kinds, ids and times |
//! | `columns` | the columns of a table and what they are made of |
//! | `bids`, `auctions`, `persons` | values of fields |
//! | `source` | the reader |
//! | [`progress`] | what a benchmark sees of the readers |

pub mod model;

mod auctions;
mod bids;
mod columns;
mod persons;
pub mod progress;
mod source;
#[cfg(test)]
mod tests;
mod texts;

use std::sync::Arc;

use hurtig_engine::registry::SourceSpec;
use hurtig_engine::source::SourceReader;
use hurtig_graph::RowSchema;
use hurtig_graph::config::{ConfigOption, ValueType};
use hurtig_graph::connector::{ConnectorError, Options, SourceInfo};

use self::columns::TableColumns;
use self::model::{Kind, Model};
use self::progress::Progress;
use crate::connector::SourceConnector;
use crate::error::{Error, Result};
use crate::options::{TableOptions, option};

const TABLE: ConfigOption = option(
    "table",
    ValueType::Enum(&["events", "person", "auction", "bid"]),
    Some("events"),
    "Which events, and so which columns, the table holds.",
);
const EVENTS: ConfigOption =
    option("events.num", ValueType::Int, Some("0"), "Number of events of all kinds; 0: without end.");
const RATE: ConfigOption = ConfigOption {
    key: "next-event.rate",
    fallback_keys: &["first-event.rate", "tps"],
    value_type: ValueType::Int,
    default: Some("10000"),
    description: "Events a second of event time.",
};
const LIMITED: ConfigOption = option(
    "rate.limited",
    ValueType::Bool,
    Some("false"),
    "Emit no faster than that by the clock too; otherwise as fast as possible.",
);
const ON_TIME: ConfigOption = option(
    "rate.by-event-time",
    ValueType::Bool,
    Some("false"),
    "Emit each event when the clock reaches its event time.",
);
const BASE_TIME: ConfigOption =
    option("base-time", ValueType::Int, Some("1436918400000"), "Event time of the first event, in ms since 1970.");
const GROUP: ConfigOption = option(
    "out-of-order.group-size",
    ValueType::Int,
    Some("1"),
    "Times are shuffled within groups of so many events. 1: in order.",
);
const PERSONS: ConfigOption = option("person.proportion", ValueType::Int, Some("1"), "Persons of so many events.");
const AUCTIONS: ConfigOption = option("auction.proportion", ValueType::Int, Some("3"), "Auctions of so many events.");
const BIDS: ConfigOption = option("bid.proportion", ValueType::Int, Some("46"), "Bids of so many events.");
const PERSON_SIZE: ConfigOption = option("person.avg-size", ValueType::Int, Some("200"), "Average bytes of a person.");
const AUCTION_SIZE: ConfigOption =
    option("auction.avg-size", ValueType::Int, Some("500"), "Average bytes of an auction.");
const BID_SIZE: ConfigOption = option("bid.avg-size", ValueType::Int, Some("100"), "Average bytes of a bid.");
const HOT_AUCTIONS: ConfigOption = option(
    "bid.hot-ratio.auctions",
    ValueType::Int,
    Some("2"),
    "One bid of so many goes to an auction that is not hot.",
);
const HOT_BIDDERS: ConfigOption =
    option("bid.hot-ratio.bidders", ValueType::Int, Some("4"), "One bid of so many is of a person that is not hot.");
const HOT_SELLERS: ConfigOption = option(
    "auction.hot-ratio.sellers",
    ValueType::Int,
    Some("4"),
    "One auction of so many is of a person that is not hot.",
);

/// All options.
pub const OPTIONS: &[ConfigOption] = &[
    TABLE,
    EVENTS,
    RATE,
    LIMITED,
    ON_TIME,
    BASE_TIME,
    GROUP,
    PERSONS,
    AUCTIONS,
    BIDS,
    PERSON_SIZE,
    AUCTION_SIZE,
    BID_SIZE,
    HOT_AUCTIONS,
    HOT_BIDDERS,
    HOT_SELLERS,
];

/// What the options of a table say.
#[derive(Debug, Clone)]
pub(crate) struct NexmarkOptions {
    /// `None`: all events.
    kind: Option<Kind>,
    /// `None`: without end.
    events: Option<u64>,
    /// Emit no faster than the rate.
    limited: bool,
    /// Emit each event at its time.
    on_time: bool,
    model: Model,
}

impl NexmarkOptions {
    fn read(options: &Options) -> Result<NexmarkOptions> {
        let table = TableOptions::new(options);
        table.reject_unknown(&[OPTIONS], &[])?;
        let at_least_one = |option: &ConfigOption| match table.count(option)? {
            Some(n) if n > 0 && n < 1 << 32 => Ok(n),
            _ => Err(Error::Validation(format!("{}: write a number from 1 to 4294967295", option.key))),
        };
        let proportion = |option: &ConfigOption| match table.count(option)? {
            Some(n) if n <= 1_000_000 => Ok(n),
            _ => Err(Error::Validation(format!("{}: write a number from 0 to 1000000", option.key))),
        };
        let model = Model {
            persons: at_least_one(&PERSONS)?,
            auctions: at_least_one(&AUCTIONS)?,
            bids: proportion(&BIDS)?,
            base_time_ms: table.int(&BASE_TIME)?.unwrap_or_default(),
            events_per_second: at_least_one(&RATE)?,
            group: at_least_one(&GROUP)?,
            person_bytes: proportion(&PERSON_SIZE)? as usize,
            auction_bytes: proportion(&AUCTION_SIZE)? as usize,
            bid_bytes: proportion(&BID_SIZE)? as usize,
            hot_auctions: at_least_one(&HOT_AUCTIONS)?,
            hot_bidders: at_least_one(&HOT_BIDDERS)?,
            hot_sellers: at_least_one(&HOT_SELLERS)?,
        };
        Ok(NexmarkOptions {
            kind: match table.word(&TABLE)? {
                "person" => Some(Kind::Person),
                "auction" => Some(Kind::Auction),
                "bid" => Some(Kind::Bid),
                _ => None,
            },
            events: table.count(&EVENTS)?.filter(|n| *n > 0),
            limited: table.bool(&LIMITED)?,
            on_time: table.bool(&ON_TIME)?,
            model,
        })
    }
}

/// The connector.
pub struct NexmarkConnector;

impl SourceConnector for NexmarkConnector {
    fn info(&self, options: &Options, schema: &RowSchema) -> Result<SourceInfo, ConnectorError> {
        let options = NexmarkOptions::read(options)?;
        TableColumns::new(options.kind, schema)?;
        Ok(SourceInfo { bounded: options.events.is_some(), projection_pushdown: true, changelog: false })
    }

    fn reader(&self, spec: &SourceSpec) -> hurtig_engine::Result<Box<dyn SourceReader>> {
        Ok(Box::new(source::NexmarkReader::new(NexmarkOptions::read(&spec.options)?, spec)?))
    }
}

/// The connector, with readers in this process that tell how far they are.
pub struct ObservedNexmark {
    progress: Arc<Progress>,
}

impl ObservedNexmark {
    /// Tells `progress`.
    pub fn new(progress: Arc<Progress>) -> ObservedNexmark {
        ObservedNexmark { progress }
    }
}

impl SourceConnector for ObservedNexmark {
    fn info(&self, options: &Options, schema: &RowSchema) -> Result<SourceInfo, ConnectorError> {
        NexmarkConnector.info(options, schema)
    }

    fn reader(&self, spec: &SourceSpec) -> hurtig_engine::Result<Box<dyn SourceReader>> {
        let reader = source::NexmarkReader::new(NexmarkOptions::read(&spec.options)?, spec)?;
        Ok(Box::new(reader.observed(self.progress.clone())))
    }
}
