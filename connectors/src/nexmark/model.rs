//! From the number of an event to its kind, its time and the ids that it may refer to.

use std::ops::Range;

use crate::random::{below, below_wide, bits};

/// Ids of persons and auctions count from here.
pub const FIRST_ID: i64 = 1000;
/// Categories count from here.
pub const FIRST_CATEGORY: i64 = 10;
/// Persons that may bid or sell.
const ACTIVE_PERSONS: u64 = 1000;
/// Ids that are referred to before they exist.
const ID_LEAD: u64 = 10;
/// Auctions that are open at a time.
pub const OPEN_AUCTIONS: u64 = 100;
/// One of so many ids is hot.
const HOT_STEP: u64 = 100;

/// The kinds of events; their numbers are the values of `event_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A new person.
    Person = 0,
    /// A new auction.
    Auction = 1,
    /// A bid on an auction.
    Bid = 2,
}

/// The parameters of the generator.
#[derive(Debug, Clone)]
pub struct Model {
    /// Persons in a round.
    pub persons: u64,
    /// Auctions in a round, behind the persons.
    pub auctions: u64,
    /// Bids in a round, behind the auctions.
    pub bids: u64,
    /// Time of event 0, in ms since 1970.
    pub base_time_ms: i64,
    /// Events a second of event time.
    pub events_per_second: u64,
    /// Times are shuffled within groups of so many events.
    pub group: u64,
    /// Average size.
    pub person_bytes: usize,
    /// Average size.
    pub auction_bytes: usize,
    /// Average size.
    pub bid_bytes: usize,
    /// One of so many bids is for an auction that is not hot.
    pub hot_auctions: u64,
    /// One of so many bids is of a bidder who is not hot.
    pub hot_bidders: u64,
    /// One of so many auctions is of a seller who is not hot.
    pub hot_sellers: u64,
}

/// Events by their numbers, with their place in the rounds.
#[derive(Debug, Default)]
pub struct Events {
    /// Number.
    pub numbers: Vec<u64>,
    /// Round.
    pub rounds: Vec<u64>,
    /// Place in the round.
    pub places: Vec<u64>,
}

impl Model {
    /// Events in a round.
    pub fn round(&self) -> u64 {
        self.persons + self.auctions + self.bids
    }

    /// The kind of the event at a place of a round.
    #[inline]
    pub fn kind(&self, place: u64) -> Kind {
        if place < self.persons {
            Kind::Person
        } else if place < self.persons + self.auctions {
            Kind::Auction
        } else {
            Kind::Bid
        }
    }

    /// The places of a kind.
    fn places(&self, kind: Option<Kind>) -> Range<u64> {
        match kind {
            None => 0..self.round(),
            Some(Kind::Person) => 0..self.persons,
            Some(Kind::Auction) => self.persons..self.persons + self.auctions,
            Some(Kind::Bid) => self.persons + self.auctions..self.round(),
        }
    }

    /// The events of a kind in `ranges`.
    pub fn events(&self, ranges: &[Range<u64>], kind: Option<Kind>) -> Events {
        let mut events = Events::default();
        let (round_size, wanted) = (self.round(), self.places(kind));
        for range in ranges {
            let mut round = range.start / round_size;
            loop {
                let first = round * round_size;
                if first >= range.end {
                    break;
                }
                let from = (first + wanted.start).max(range.start);
                let to = (first + wanted.end).min(range.end);
                for number in from..to {
                    events.numbers.push(number);
                    events.rounds.push(round);
                    events.places.push(number - first);
                }
                round += 1;
            }
        }
        events
    }

    /// The time of an event, in ms since 1970.
    #[inline]
    pub fn time_ms(&self, number: u64) -> i64 {
        let number = match self.group {
            1 => number,
            group => {
                let offset = number % group;
                // 953 is a prime, so this visits every place of a group that it does not divide.
                number - offset + offset * 953 % group
            }
        };
        self.base_time_ms + (number as f64 * self.ms_per_event()) as i64
    }

    #[inline]
    fn ms_per_event(&self) -> f64 {
        1000.0 / self.events_per_second as f64
    }

    /// Persons made up to and including an event, less one: the last one's number.
    #[inline]
    pub fn last_person(&self, round: u64, place: u64) -> u64 {
        round * self.persons + place.min(self.persons - 1)
    }

    /// The number of the last auction made up to and including an event. Before there is any: 0.
    #[inline]
    pub fn last_auction(&self, round: u64, place: u64) -> u64 {
        if place < self.persons {
            return (round * self.auctions).saturating_sub(1);
        }
        round * self.auctions + (place - self.persons).min(self.auctions - 1)
    }

    /// Any person who is active at an event.
    #[inline]
    fn any_person(&self, bits: u64, last: u64) -> u64 {
        let persons = last + 1;
        let active = persons.min(ACTIVE_PERSONS);
        persons - active + below_wide(bits, active + ID_LEAD)
    }

    /// Any auction that is open at an event.
    #[inline]
    fn any_auction(bits: u64, last: u64) -> u64 {
        let first = last.saturating_sub(OPEN_AUCTIONS);
        first + below_wide(bits, last - first + 1 + ID_LEAD)
    }

    /// The auction of a bid.
    #[inline]
    pub fn bid_auction(&self, number: u64, round: u64, place: u64, stream: u64) -> i64 {
        let (r, last) = (bits(number, stream), self.last_auction(round, place));
        let auction = if below(r, self.hot_auctions) > 0 {
            last / HOT_STEP * HOT_STEP
        } else {
            Self::any_auction(bits(number, stream + 1), last)
        };
        auction as i64 + FIRST_ID
    }

    /// The bidder of a bid.
    #[inline]
    pub fn bid_bidder(&self, number: u64, round: u64, place: u64, stream: u64) -> i64 {
        let (r, last) = (bits(number, stream), self.last_person(round, place));
        let person = if below(r, self.hot_bidders) > 0 {
            last / HOT_STEP * HOT_STEP + 1
        } else {
            self.any_person(bits(number, stream + 1), last)
        };
        person as i64 + FIRST_ID
    }

    /// The seller of an auction.
    #[inline]
    pub fn seller(&self, number: u64, round: u64, place: u64, stream: u64) -> i64 {
        let (r, last) = (bits(number, stream), self.last_person(round, place));
        let person = if below(r, self.hot_sellers) > 0 {
            last / HOT_STEP * HOT_STEP
        } else {
            self.any_person(bits(number, stream + 1), last)
        };
        person as i64 + FIRST_ID
    }

    /// How long about an auction stays open, in ms.
    pub fn auction_horizon_ms(&self, number: u64) -> u64 {
        let events = OPEN_AUCTIONS * self.round() / self.auctions;
        (self.time_ms(number + events) - self.time_ms(number)).max(1) as u64
    }
}
