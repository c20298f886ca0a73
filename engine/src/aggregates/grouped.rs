//! From a function over single states to an accumulator over groups.

use arrow::array::{ArrayRef, AsArray, BinaryBuilder};
use std::sync::Arc;

use super::chunks::{ChunkedVec, FrozenChunks, GroupBits, Writer};
use super::{Accumulator, FrozenAccumulator, Rows};
use crate::error::{EngineError, Result};

/// A function whose state for one group is a value of type `State`.
pub trait Function: Clone + Send + Sync + 'static {
    /// Default: the empty group.
    type State: Clone + Default + Send + Sync + 'static;

    /// See [`Accumulator::update`].
    fn update(&self, states: &mut Writer<'_, Self::State>, arguments: &[ArrayRef], rows: &Rows<'_>) -> Result<()>;
    /// See [`Accumulator::evaluate`].
    fn evaluate(&self, states: &ChunkedVec<Self::State>, groups: &[u32]) -> Result<ArrayRef>;
    /// Appends the state's bytes.
    fn encode(&self, state: &Self::State, out: &mut Vec<u8>);
    /// Reads what [`Function::encode`] wrote.
    fn decode(&self, input: &mut &[u8]) -> Result<Self::State>;

    /// See [`Accumulator::partial`]. By default one BINARY column.
    fn partial(&self, states: &ChunkedVec<Self::State>, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut builder = BinaryBuilder::new();
        let mut bytes = Vec::new();
        for &group in groups {
            bytes.clear();
            self.encode(states.get(group), &mut bytes);
            builder.append_value(&bytes);
        }
        Ok(vec![Arc::new(builder.finish())])
    }

    /// See [`Accumulator::merge`]. By default by [`Function::combine`] over the BINARY column.
    fn merge(&self, states: &mut Writer<'_, Self::State>, partials: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let [column] = partials else { return Err(wrong_partials()) };
        let Some(column) = column.as_binary_opt::<i32>() else { return Err(wrong_partials()) };
        let mut failure = None;
        rows.for_each(|row, group, _| {
            if failure.is_none() {
                match self.decode(&mut column.value(row)) {
                    Ok(other) => self.combine(states.at(group), other),
                    Err(e) => failure = Some(e),
                }
            }
        });
        failure.map_or(Ok(()), Err)
    }

    /// Adds a later state to `state`.
    fn combine(&self, state: &mut Self::State, later: Self::State);

    /// Approximate heap memory of a state, found without visiting all of it.
    fn heap_bytes(&self, _state: &Self::State) -> usize {
        0
    }
}

/// The error of accumulator columns that are not those of the function.
pub fn wrong_partials() -> EngineError {
    EngineError::Internal("the accumulator columns of the local phase do not fit the aggregate".into())
}

/// The accumulator of a [`Function`].
pub struct Grouped<F: Function> {
    function: F,
    states: ChunkedVec<F::State>,
    /// Whether states own memory beside themselves.
    heap: bool,
}

impl<F: Function> Grouped<F> {
    /// Without groups; `heap`: states own memory beside themselves.
    pub fn boxed(function: F, heap: bool) -> Box<dyn Accumulator> {
        Box::new(Grouped { function, states: ChunkedVec::default(), heap })
    }
}

impl<F: Function> Accumulator for Grouped<F> {
    fn resize(&mut self, groups: usize) {
        self.states.resize(groups);
    }

    fn update(&mut self, arguments: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let mut writer = self.states.writer(rows.touched);
        self.function.update(&mut writer, arguments, rows)
    }

    fn merge(&mut self, partials: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let mut writer = self.states.writer(rows.touched);
        self.function.merge(&mut writer, partials, rows)
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        self.function.evaluate(&self.states, groups)
    }

    fn partial(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        self.function.partial(&self.states, groups)
    }

    fn decode(&mut self, group: u32, input: &mut &[u8]) -> Result<()> {
        *self.states.get_mut(group) = self.function.decode(input)?;
        Ok(())
    }

    fn reset(&mut self, groups: &[u32]) {
        for &group in groups {
            *self.states.get_mut(group) = F::State::default();
        }
    }

    fn freeze(&mut self, chunks: &[usize], _puts: &GroupBits, _deletes: &GroupBits) -> Box<dyn FrozenAccumulator> {
        Box::new(Frozen { function: self.function.clone(), states: self.states.freeze(chunks) })
    }

    fn state_bytes(&self) -> usize {
        size_of::<F::State>()
    }

    fn owns_heap(&self) -> bool {
        self.heap
    }

    fn heap_bytes(&self, groups: &[u32]) -> usize {
        if !self.heap {
            return 0;
        }
        groups.iter().map(|&g| self.function.heap_bytes(self.states.get(g))).sum()
    }
}

struct Frozen<F: Function> {
    function: F,
    states: FrozenChunks<F::State>,
}

impl<F: Function> FrozenAccumulator for Frozen<F> {
    fn encode(&self, index: usize, offset: usize, out: &mut Vec<u8>) {
        self.function.encode(self.states.get(index, offset), out);
    }
}
