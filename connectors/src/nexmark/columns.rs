//! The columns of a table and what they are made of.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, StringArray, StructArray, TimestampMillisecondArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType as ArrowType, Fields, Int64Type, TimestampMillisecondType};
use hurtig_graph::types::arrow_form::LTZ_ZONE;
use hurtig_graph::{LogicalType, RowSchema};

use super::model::{Events, FIRST_ID, Kind, Model};
use super::{auctions, bids, persons, texts};
use crate::error::{Error, Result};
use crate::random::push_letters;

/// A field of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    Auction,
    Bidder,
    Price,
    Channel,
    Url,
    Name,
    Email,
    Card,
    City,
    State,
    Description,
    InitialBid,
    Reserve,
    Expires,
    Seller,
    Category,
    DateTime,
    Extra,
}

/// Names, in the usual order, and fields.
fn fields(kind: Kind) -> &'static [(&'static str, Field)] {
    match kind {
        Kind::Person => &[
            ("id", Field::Id),
            ("name", Field::Name),
            ("emailAddress", Field::Email),
            ("creditCard", Field::Card),
            ("city", Field::City),
            ("state", Field::State),
            ("dateTime", Field::DateTime),
            ("extra", Field::Extra),
        ],
        Kind::Auction => &[
            ("id", Field::Id),
            ("itemName", Field::Name),
            ("description", Field::Description),
            ("initialBid", Field::InitialBid),
            ("reserve", Field::Reserve),
            ("dateTime", Field::DateTime),
            ("expires", Field::Expires),
            ("seller", Field::Seller),
            ("category", Field::Category),
            ("extra", Field::Extra),
        ],
        Kind::Bid => &[
            ("auction", Field::Auction),
            ("bidder", Field::Bidder),
            ("price", Field::Price),
            ("channel", Field::Channel),
            ("url", Field::Url),
            ("dateTime", Field::DateTime),
            ("extra", Field::Extra),
        ],
    }
}

impl Field {
    fn is_text(self) -> bool {
        use Field::*;
        matches!(self, Channel | Url | Name | Email | Card | City | State | Description | Extra)
    }
}

/// A field and whether its time is an instant (TIMESTAMP_LTZ).
#[derive(Debug, Clone, Copy)]
struct Leaf {
    field: Field,
    ltz: bool,
}

/// A column of a table.
#[derive(Debug, Clone)]
enum TableColumn {
    EventType,
    Time { ltz: bool },
    Leaf(Kind, Leaf),
    Row(Kind, Vec<Leaf>, Fields),
}

/// The columns of a table.
#[derive(Debug, Clone)]
pub struct TableColumns {
    /// `None`: all events.
    kind: Option<Kind>,
    columns: Vec<TableColumn>,
}

const TIMES: &str = "TIMESTAMP(3)";

fn is_time(ty: &LogicalType) -> bool {
    matches!(ty, LogicalType::Timestamp(0..=3) | LogicalType::TimestampLtz(0..=3))
}

fn leaf(kind: Kind, name: &str, ty: &LogicalType) -> Result<Leaf> {
    let known = fields(kind);
    let Some((_, field)) = known.iter().find(|(n, _)| *n == name) else {
        let names: Vec<&str> = known.iter().map(|(n, _)| *n).collect();
        return Err(Error::Validation(format!(
            "a nexmark {kind:?} has no field '{name}'; its fields are {}",
            names.join(", ")
        )));
    };
    let (fits, wanted) = match field {
        Field::DateTime | Field::Expires => (is_time(ty), TIMES),
        field if field.is_text() => (matches!(ty, LogicalType::Char(_) | LogicalType::Varchar(_)), "STRING"),
        _ => (*ty == LogicalType::BigInt, "BIGINT"),
    };
    if !fits {
        return Err(Error::Validation(format!("column '{name}' of a nexmark table must be {wanted}, not {ty}")));
    }
    Ok(Leaf { field: *field, ltz: matches!(ty, LogicalType::TimestampLtz(_)) })
}

fn event_column(name: &str, ty: &LogicalType) -> Result<TableColumn> {
    let kind = match name {
        "event_type" if *ty == LogicalType::Int => return Ok(TableColumn::EventType),
        "dateTime" if is_time(ty) => {
            return Ok(TableColumn::Time { ltz: matches!(ty, LogicalType::TimestampLtz(_)) });
        }
        "person" => Kind::Person,
        "auction" => Kind::Auction,
        "bid" => Kind::Bid,
        _ => {
            return Err(Error::Validation(format!(
                "a nexmark table of all events has no column '{name} {ty}'; its columns are event_type INT, person \
                 ROW<...>, auction ROW<...>, bid ROW<...>, dateTime {TIMES}; for the events of one kind set \
                 'table' = 'bid', 'auction' or 'person'"
            )));
        }
    };
    let (LogicalType::Row(members), ArrowType::Struct(arrow)) = (ty, ty.to_arrow()) else {
        return Err(Error::Validation(format!("column '{name}' of a nexmark table must be a ROW, not {ty}")));
    };
    let leaves = members.iter().map(|(name, ty)| leaf(kind, name, &ty.logical)).collect::<Result<_>>()?;
    Ok(TableColumn::Row(kind, leaves, arrow))
}

impl TableColumns {
    /// The columns of `schema` of a table of events of `kind`.
    pub fn new(kind: Option<Kind>, schema: &RowSchema) -> Result<TableColumns> {
        let columns = schema.fields.iter().map(|f| match kind {
            Some(kind) => Ok(TableColumn::Leaf(kind, leaf(kind, &f.name, &f.data_type.logical)?)),
            None => event_column(&f.name, &f.data_type.logical),
        });
        Ok(TableColumns { kind, columns: columns.collect::<Result<_>>()? })
    }

    /// The kind of the rows; `None`: all.
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Whether there are texts, which make rows large.
    pub fn has_texts(&self) -> bool {
        self.columns.iter().any(|column| match column {
            TableColumn::Leaf(_, leaf) => leaf.field.is_text(),
            TableColumn::Row(_, leaves, _) => leaves.iter().any(|leaf| leaf.field.is_text()),
            TableColumn::EventType | TableColumn::Time { .. } => false,
        })
    }

    /// The columns of `events`, which are all of the table's kind.
    pub fn build(&self, model: &Model, events: &Events) -> Result<Vec<ArrayRef>> {
        let columns = self.columns.iter().map(|column| match column {
            TableColumn::Leaf(kind, leaf) => values(*kind, *leaf, model, events),
            TableColumn::EventType => {
                Ok(Arc::new(Int32Array::from_iter_values(events.places.iter().map(|p| model.kind(*p) as i32))) as _)
            }
            TableColumn::Time { ltz } => Ok(times(events, *ltz, |n| model.time_ms(n))),
            TableColumn::Row(kind, leaves, arrow) => rows(*kind, leaves, arrow, model, events),
        });
        columns.collect()
    }
}

/// A column of rows that are NULL where the event is of another kind.
fn rows(kind: Kind, leaves: &[Leaf], arrow: &Fields, model: &Model, events: &Events) -> Result<ArrayRef> {
    let mut own = Events::default();
    let mut valid = Vec::with_capacity(events.numbers.len());
    for i in 0..events.numbers.len() {
        let matches = model.kind(events.places[i]) == kind;
        valid.push(matches);
        if matches {
            own.numbers.push(events.numbers[i]);
            own.rounds.push(events.rounds[i]);
            own.places.push(events.places[i]);
        }
    }
    let nulls = NullBuffer::from(valid.clone());
    let columns = leaves
        .iter()
        .map(|leaf| Ok(spread(&values(kind, *leaf, model, &own)?, &valid, &nulls)))
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(arrow.clone(), columns, Some(nulls), valid.len())?))
}

/// `values` at the places that are valid, NULL at the others.
fn spread(values: &ArrayRef, valid: &[bool], nulls: &NullBuffer) -> ArrayRef {
    let numbers = |values: &[i64]| {
        let mut at = 0;
        let spread = valid.iter().map(|&v| {
            let value = if v { values[at] } else { 0 };
            at += usize::from(v);
            value
        });
        ScalarBuffer::from(spread.collect::<Vec<i64>>())
    };
    if let Some(texts) = values.as_string_opt::<i32>() {
        // The bytes stay as they are: a NULL is an empty piece of them.
        let mut at = 0;
        let mut offsets = Vec::with_capacity(valid.len() + 1);
        offsets.push(0_i32);
        for &v in valid {
            at += usize::from(v);
            offsets.push(texts.offsets()[at]);
        }
        let offsets = OffsetBuffer::new(offsets.into());
        return Arc::new(StringArray::new(offsets, texts.values().clone(), Some(nulls.clone())));
    }
    if let Some(times) = values.as_primitive_opt::<TimestampMillisecondType>() {
        let array = TimestampMillisecondArray::new(numbers(times.values()), Some(nulls.clone()));
        return Arc::new(array.with_timezone_opt(times.timezone()));
    }
    let integers = values.as_primitive::<Int64Type>();
    Arc::new(Int64Array::new(numbers(integers.values()), Some(nulls.clone())))
}

fn times(events: &Events, ltz: bool, time: impl Fn(u64) -> i64) -> ArrayRef {
    let array = TimestampMillisecondArray::from_iter_values(events.numbers.iter().map(|n| time(*n)));
    Arc::new(array.with_timezone_opt(ltz.then_some(LTZ_ZONE)))
}

fn integers(events: &Events, value: impl Fn(u64, u64, u64) -> i64) -> ArrayRef {
    let places = events.numbers.iter().zip(&events.rounds).zip(&events.places);
    Arc::new(Int64Array::from_iter_values(places.map(|((n, r), p)| value(*n, *r, *p))))
}

/// The values of a field of `events`, which are all of `kind`.
fn values(kind: Kind, leaf: Leaf, m: &Model, events: &Events) -> Result<ArrayRef> {
    let numbers = &events.numbers;
    let text = |bytes: usize, write: &dyn Fn(&mut Vec<u8>, u64)| {
        texts::column(numbers.len(), bytes, |row, out| write(out, numbers[row]))
    };
    Ok(match (kind, leaf.field) {
        (_, Field::DateTime) => times(events, leaf.ltz, |n| m.time_ms(n)),
        (Kind::Person, Field::Id) => integers(events, |_, r, p| m.last_person(r, p) as i64 + FIRST_ID),
        (_, Field::Id) => integers(events, |_, r, p| m.last_auction(r, p) as i64 + FIRST_ID),
        (_, Field::Auction) => integers(events, |n, r, p| m.bid_auction(n, r, p, bids::AUCTION)),
        (_, Field::Bidder) => integers(events, |n, r, p| m.bid_bidder(n, r, p, bids::BIDDER)),
        (_, Field::Price) => integers(events, |n, _, _| bids::price(n)),
        (_, Field::Channel) => {
            let channels = bids::channels();
            text(12, &|out, n| out.extend_from_slice(channels.name(bids::channel(n))))?
        }
        (_, Field::Url) => {
            let channels = bids::channels();
            text(80, &|out, n| out.extend_from_slice(channels.url(bids::channel(n))))?
        }
        (Kind::Person, Field::Name) => text(16, &persons::push_name)?,
        (_, Field::Name) => text(16, &|out, n| texts::push_words(out, n, auctions::NAME, auctions::MAX_NAME, b' '))?,
        (_, Field::Description) => {
            text(64, &|out, n| texts::push_words(out, n, auctions::DESCRIPTION, auctions::MAX_DESCRIPTION, b' '))?
        }
        (_, Field::Email) => text(16, &persons::push_email)?,
        (_, Field::Card) => text(20, &persons::push_card)?,
        (_, Field::City) => text(12, &|out, n| out.extend_from_slice(persons::city(n).as_bytes()))?,
        (_, Field::State) => text(2, &|out, n| out.extend_from_slice(persons::state(n).as_bytes()))?,
        (_, Field::InitialBid) => integers(events, |n, _, _| auctions::initial_bid(n)),
        (_, Field::Reserve) => integers(events, |n, _, _| auctions::reserve(n)),
        (_, Field::Expires) => times(events, leaf.ltz, |n| auctions::expires(m, n)),
        (_, Field::Seller) => integers(events, |n, r, p| m.seller(n, r, p, auctions::SELLER)),
        (_, Field::Category) => integers(events, |n, _, _| auctions::category(n)),
        (kind, Field::Extra) => extras(kind, m, numbers)?,
    })
}

fn extras(kind: Kind, m: &Model, numbers: &[u64]) -> Result<ArrayRef> {
    let (wanted, stream) = match kind {
        Kind::Person => (m.person_bytes, persons::EXTRA),
        Kind::Auction => (m.auction_bytes, auctions::EXTRA),
        Kind::Bid => (m.bid_bytes, bids::EXTRA),
    };
    texts::column(numbers.len(), wanted, |row, out| {
        let n = numbers[row];
        let fixed = match kind {
            Kind::Person => persons::fixed_bytes(n),
            Kind::Auction => auctions::fixed_bytes(n),
            Kind::Bid => bids::FIXED_BYTES,
        };
        push_letters(out, n, stream + 1, texts::extra_length(n, stream, fixed, wanted));
    })
}
