//! The statements of the Nexmark queries. They name no engine: `hurtig bench nexmark --show` prints
//! them, and whoever has connectors of the same names runs the very same text.

use hurtig::{Error, ErrorKind};

/// A query and the columns of its result.
#[derive(Debug)]
pub struct Query {
    pub name: &'static str,
    pub columns: &'static str,
    pub text: &'static str,
}

/// The generator alone, into a sink that only counts.
pub const SOURCE: &str = "source";

/// Where the events come from.
#[derive(Debug, Clone)]
pub enum Input {
    /// The generator with all its columns.
    Events,
    /// The generator's bids, of which only the columns are made that a query reads.
    Bids,
    /// JSON files in this folder.
    Files(String),
}

const PERSON: &str = "ROW<id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING,
    `dateTime` TIMESTAMP(3), extra STRING>";
const AUCTION: &str = "ROW<id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT,
    `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING>";
const BID: &str = "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING,
    `dateTime` TIMESTAMP(3), extra STRING";
/// Events of one file come in order of their times, so that none are late: pieces would be read side by
/// side. Other engines do not know the option, and do not cut JSON files: [`portable`] takes it out.
const WHOLE_FILES: &str = ", 'scan.split.max-size' = '1 tb'";
const WATERMARK: &str = "WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND";

/// All queries.
pub const QUERIES: &[Query] = &[
    Query {
        name: "q0",
        columns: "auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra STRING",
        text: "SELECT auction, bidder, price, `dateTime`, extra FROM bid",
    },
    Query {
        name: "q1",
        columns: "auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), `dateTime` TIMESTAMP(3), extra STRING",
        text: "SELECT auction, bidder, 0.908 * price AS price, `dateTime`, extra FROM bid",
    },
    Query {
        name: "q2",
        columns: "auction BIGINT, price BIGINT",
        text: "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0",
    },
    Query {
        name: "q10",
        columns: "auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra STRING, dt STRING,
          hm STRING",
        text: "SELECT auction, bidder, price, `dateTime`, extra,
          DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') AS dt, DATE_FORMAT(`dateTime`, 'HH:mm') AS hm FROM bid",
    },
    Query {
        name: "q12",
        columns: "bidder BIGINT, bid_count BIGINT, starttime TIMESTAMP(3), endtime TIMESTAMP(3)",
        text: "SELECT bidder, COUNT(*) AS bid_count, window_start AS starttime, window_end AS endtime
          FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
          GROUP BY bidder, window_start, window_end",
    },
    Query {
        name: "q14",
        columns: "auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), bid_time_type STRING,
          `dateTime` TIMESTAMP(3), extra STRING, c_count INT",
        text: "SELECT auction, bidder, 0.908 * price AS price,
          CASE
            WHEN HOUR(`dateTime`) >= 8 AND HOUR(`dateTime`) <= 18 THEN 'dayTime'
            WHEN HOUR(`dateTime`) <= 6 OR HOUR(`dateTime`) >= 20 THEN 'nightTime'
            ELSE 'otherTime'
          END AS bid_time_type, `dateTime`, extra,
          CHAR_LENGTH(extra) - CHAR_LENGTH(REPLACE(extra, 'c', '')) AS c_count
          FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000",
    },
    Query {
        name: "q15",
        columns: "`day` STRING, total_bids BIGINT, rank1_bids BIGINT, rank2_bids BIGINT, rank3_bids BIGINT,
          total_bidders BIGINT, rank1_bidders BIGINT, rank2_bidders BIGINT, rank3_bidders BIGINT,
          total_auctions BIGINT, rank1_auctions BIGINT, rank2_auctions BIGINT, rank3_auctions BIGINT",
        text: "SELECT DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') AS `day`, COUNT(*) AS total_bids,
          COUNT(*) FILTER (WHERE price < 10000) AS rank1_bids,
          COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
          COUNT(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
          COUNT(DISTINCT bidder) AS total_bidders,
          COUNT(DISTINCT bidder) FILTER (WHERE price < 10000) AS rank1_bidders,
          COUNT(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bidders,
          COUNT(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS rank3_bidders,
          COUNT(DISTINCT auction) AS total_auctions,
          COUNT(DISTINCT auction) FILTER (WHERE price < 10000) AS rank1_auctions,
          COUNT(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_auctions,
          COUNT(DISTINCT auction) FILTER (WHERE price >= 1000000) AS rank3_auctions
          FROM bid GROUP BY DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
    },
    Query {
        name: "q16",
        columns: "channel STRING, `day` STRING, `minute` STRING, total_bids BIGINT, rank1_bids BIGINT,
          rank2_bids BIGINT, rank3_bids BIGINT, total_bidders BIGINT, rank1_bidders BIGINT, rank2_bidders BIGINT,
          rank3_bidders BIGINT, total_auctions BIGINT, rank1_auctions BIGINT, rank2_auctions BIGINT,
          rank3_auctions BIGINT",
        text: "SELECT channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') AS `day`,
          MAX(DATE_FORMAT(`dateTime`, 'HH:mm')) AS `minute`, COUNT(*) AS total_bids,
          COUNT(*) FILTER (WHERE price < 10000) AS rank1_bids,
          COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
          COUNT(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
          COUNT(DISTINCT bidder) AS total_bidders,
          COUNT(DISTINCT bidder) FILTER (WHERE price < 10000) AS rank1_bidders,
          COUNT(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bidders,
          COUNT(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS rank3_bidders,
          COUNT(DISTINCT auction) AS total_auctions,
          COUNT(DISTINCT auction) FILTER (WHERE price < 10000) AS rank1_auctions,
          COUNT(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_auctions,
          COUNT(DISTINCT auction) FILTER (WHERE price >= 1000000) AS rank3_auctions
          FROM bid GROUP BY channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
    },
    Query {
        name: "q17",
        columns: "auction BIGINT, `day` STRING, total_bids BIGINT, rank1_bids BIGINT, rank2_bids BIGINT,
          rank3_bids BIGINT, min_price BIGINT, max_price BIGINT, avg_price BIGINT, sum_price BIGINT",
        text: "SELECT auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') AS `day`, COUNT(*) AS total_bids,
          COUNT(*) FILTER (WHERE price < 10000) AS rank1_bids,
          COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
          COUNT(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
          MIN(price) AS min_price, MAX(price) AS max_price, AVG(price) AS avg_price, SUM(price) AS sum_price
          FROM bid GROUP BY auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
    },
    Query {
        name: "q21",
        columns: "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, channel_id STRING",
        text: "SELECT auction, bidder, price, channel,
          CASE
            WHEN LOWER(channel) = 'apple' THEN '0'
            WHEN LOWER(channel) = 'google' THEN '1'
            WHEN LOWER(channel) = 'facebook' THEN '2'
            WHEN LOWER(channel) = 'baidu' THEN '3'
            ELSE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2)
          END AS channel_id
          FROM bid
          WHERE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) IS NOT NULL
            OR LOWER(channel) IN ('apple', 'google', 'facebook', 'baidu')",
    },
    Query {
        name: "q22",
        columns: "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, dir1 STRING, dir2 STRING, dir3 STRING",
        text: "SELECT auction, bidder, price, channel, SPLIT_INDEX(url, '/', 3) AS dir1,
          SPLIT_INDEX(url, '/', 4) AS dir2, SPLIT_INDEX(url, '/', 5) AS dir3 FROM bid",
    },
];

/// The names of all queries, and of the generator alone.
pub fn names() -> impl Iterator<Item = &'static str> {
    QUERIES.iter().map(|q| q.name).chain([SOURCE])
}

/// The columns of all events as they are stored, in parentheses.
fn event_columns(more: &str) -> String {
    format!("(event_type INT, person {PERSON}, auction {AUCTION}, bid ROW<{BID}>{more})")
}

fn generator(events: u64, rate: u64, more: &str) -> String {
    format!("WITH ('connector' = 'nexmark', 'events.num' = '{events}', 'next-event.rate' = '{rate}'{more})")
}

/// What a run of a query needs: tables first, the INSERT last. `text` takes the place of the query's own.
///
/// # Errors
/// A name that is none of [`names`].
pub fn statements(name: &str, text: Option<&str>, input: &Input, events: u64, rate: u64) -> Result<Vec<String>, Error> {
    let from = match input {
        Input::Files(path) => {
            format!("WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'json'{WHOLE_FILES})")
        }
        Input::Events | Input::Bids => generator(events, rate, ""),
    };
    if name.eq_ignore_ascii_case(SOURCE) {
        return Ok(vec![
            format!("CREATE TABLE events {} {from}", event_columns("")),
            format!("CREATE TABLE discarded {} WITH ('connector' = 'discard')", event_columns("")),
            "INSERT INTO discarded SELECT event_type, person, auction, bid FROM events".to_owned(),
        ]);
    }
    let query = QUERIES.iter().find(|q| q.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let names: Vec<&str> = names().collect();
        Error::new(ErrorKind::Config, format!("there is no query '{name}': choose of {}", names.join(", ")))
    })?;
    let mut statements = Vec::new();
    if let Input::Bids = input {
        let options = generator(events, rate, ", 'table' = 'bid'");
        statements.push(format!("CREATE TABLE bid ({BID}, {WATERMARK}) {options}"));
    } else {
        let time =
            "CASE event_type WHEN 0 THEN person.`dateTime` WHEN 1 THEN auction.`dateTime` ELSE bid.`dateTime` END";
        let columns = event_columns(&format!(", `dateTime` AS {time}, {WATERMARK}"));
        statements.push(format!("CREATE TABLE events {columns} {from}"));
        statements.push(
            "CREATE VIEW bid AS SELECT bid.auction, bid.bidder, bid.price, bid.channel, bid.url, `dateTime`, bid.extra \
             FROM events WHERE event_type = 2"
                .to_owned(),
        );
    }
    statements.push(format!("CREATE TABLE results ({}) WITH ('connector' = 'checksum')", query.columns));
    statements.push(format!("INSERT INTO results {}", text.unwrap_or(query.text)));
    Ok(statements)
}

/// A statement without what is Hurtig's own.
pub fn portable(statement: &str) -> String {
    statement.replace(WHOLE_FILES, "")
}

/// Writes the events as JSON files, one for each subtask, which [`Input::Files`] reads.
pub fn write_files(path: &str, events: u64, rate: u64) -> Vec<String> {
    vec![
        format!("CREATE TABLE events {} {}", event_columns(""), generator(events, rate, "")),
        // One file a subtask, so that events of one file come in order of their times.
        format!(
            "CREATE TABLE files {} WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'json', \
             'sink.rolling-policy.file-size' = '1 tb')",
            event_columns("")
        ),
        "INSERT INTO files SELECT event_type, person, auction, bid FROM events".to_owned(),
    ]
}
