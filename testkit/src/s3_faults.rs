//! What goes wrong at the S3 server: faults for named requests, and random ones by a seed.

use std::time::Duration;

use crate::dice::Dice;

/// Something that goes wrong.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Only requests with this method; empty: all.
    pub method: String,
    /// Only requests whose bucket and key contain this.
    pub path_contains: String,
    /// How many requests it meets; then it is over.
    pub times: usize,
    /// What happens to them.
    pub kind: FaultKind,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing is done; this status is answered.
    Status(u16),
    /// It is done and the connection closed without an answer.
    LostAnswer,
    /// It is done after a pause.
    Stall(Duration),
    /// It is done; of the answer's body half is sent, then the connection closed. Answers without a
    /// body are lost.
    PartialBody,
    /// A conditional write is answered with 409 (ConditionalRequestConflict) and not done, as S3 does
    /// when two come at once. Other requests are not met.
    Conflict,
    /// It is done; what is read has one bit changed. Answers without a body are as they are.
    CorruptBody,
}

/// Faults that meet requests at random.
#[derive(Debug, Clone)]
pub struct RandomFaults {
    /// Of 1000 requests so many are met.
    pub permille: u64,
    /// What happens to them, each equally often.
    pub kinds: Vec<FaultKind>,
    dice: Dice,
}

impl RandomFaults {
    /// Faults that the seed determines, in the order in which requests come.
    pub fn new(seed: u64, permille: u64, kinds: &[FaultKind]) -> RandomFaults {
        RandomFaults { permille, kinds: kinds.to_vec(), dice: Dice::new(seed) }
    }
}

/// What a server is to do wrong.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) named: Vec<Fault>,
    pub(super) random: Option<RandomFaults>,
}

impl Faults {
    /// The fault for a request, if one meets it. `conditional`: it is a conditional write.
    pub(super) fn next(&mut self, method: &str, path: &str, conditional: bool) -> Option<FaultKind> {
        let meets = |kind: FaultKind| kind != FaultKind::Conflict || conditional;
        let named = self.named.iter_mut().find(|f| {
            f.times > 0
                && (f.method.is_empty() || f.method == method)
                && path.contains(&f.path_contains)
                && meets(f.kind)
        });
        if let Some(fault) = named {
            fault.times -= 1;
            return Some(fault.kind);
        }
        let random = self.random.as_mut()?;
        if !random.dice.chance(random.permille) || random.kinds.is_empty() {
            return None;
        }
        Some(*random.dice.pick(&random.kinds)).filter(|&kind| meets(kind))
    }
}
