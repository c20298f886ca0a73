//! Functions over values with their counts: COLLECT, and MIN and MAX where rows can be taken back.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryBuilder, Int32Array, MapArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;

use super::chunks::GroupBits;
use super::columns::{ColumnReader, decode_column, put_bytes, take_array, take_sized};
use super::grouped::wrong_partials;
use super::sets::{Element, ElementSet, ElementWrites, FrozenSets, Sets};
use super::{Accumulator, FrozenAccumulator, Rows};
use crate::error::{EngineError, Result};

/// What a value of a set weighs beside its bytes: its node's share, its box.
const ENTRY_BYTES: usize = 48;

/// Values (encoded, so ordered) with their counts. Below zero: taken back before they came.
#[derive(Clone, Debug, Default)]
pub(super) struct ValueCounts {
    counts: BTreeMap<Box<[u8]>, i64>,
    bytes: usize,
}

impl ValueCounts {
    /// Adds `change` appearances of a value.
    fn add(&mut self, value: &[u8], change: i64) {
        match self.counts.get_mut(value) {
            Some(count) => {
                *count += change;
                if *count == 0 {
                    self.counts.remove(value);
                    self.bytes -= value.len() + ENTRY_BYTES;
                }
            }
            None => {
                self.counts.insert(value.into(), change);
                self.bytes += value.len() + ENTRY_BYTES;
            }
        }
    }

    /// The values that are there, in order, with their counts.
    fn present(&self) -> impl DoubleEndedIterator<Item = (&[u8], i64)> {
        self.counts.iter().filter(|(_, count)| **count > 0).map(|(value, count)| (value.as_ref(), *count))
    }
}

impl ElementSet for ValueCounts {
    fn len(&self) -> usize {
        self.counts.len()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn get(&self, value: &[u8]) -> Option<Element> {
        self.counts.get(value).map(|&count| Element { count, order: 0 })
    }

    fn restore(&mut self, value: &[u8], element: Element) {
        self.add(value, element.count);
    }

    fn for_each(&self, f: &mut dyn FnMut(&[u8], Element)) {
        self.counts.iter().for_each(|(value, &count)| f(value, Element { count, order: 0 }));
    }

    fn next_order(&self) -> u64 {
        0
    }

    fn set_next_order(&mut self, _next: u64) {}

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.counts.len() as u32).to_le_bytes());
        for (value, count) in &self.counts {
            put_bytes(value, out);
            out.extend_from_slice(&count.to_le_bytes());
        }
    }

    fn decode(input: &mut &[u8]) -> Result<ValueCounts> {
        let length = u32::from_le_bytes(take_array(input)?);
        let mut counts = ValueCounts::default();
        for _ in 0..length {
            let value = take_sized(input)?;
            counts.add(value, i64::from_le_bytes(take_array(input)?));
        }
        Ok(counts)
    }
}

/// What becomes of the values.
pub(super) enum Outcome {
    /// The least, or the greatest.
    Extreme { max: bool },
    /// All, as a multiset of this type.
    Multiset(DataType),
}

/// The accumulator.
pub(super) struct Counted {
    ty: DataType,
    result: Outcome,
    sets: Sets<ValueCounts>,
}

impl Counted {
    /// Over values of `ty`.
    pub(super) fn boxed(ty: DataType, result: Outcome, keeps_elements: bool) -> Box<dyn Accumulator> {
        Box::new(Counted { ty, result, sets: Sets::new(keeps_elements) })
    }

    fn multisets(&self, groups: &[u32], result: &DataType) -> Result<ArrayRef> {
        let DataType::Map(entry, ordered) = result else {
            return Err(EngineError::Internal("the result of COLLECT is not a multiset".into()));
        };
        let DataType::Struct(fields) = entry.data_type() else {
            return Err(EngineError::Internal("the entries of a multiset are not rows".into()));
        };
        let present = |g: &u32| self.sets.get(*g).present();
        let keys = decode_column(groups.iter().flat_map(present).map(|(value, _)| Some(value)), &self.ty)?;
        let counts: Int32Array = groups.iter().flat_map(present).map(|(_, count)| Some(count as i32)).collect();
        let offsets = OffsetBuffer::from_lengths(groups.iter().map(|g| present(g).count()));
        let entries = StructArray::try_new(fields.clone(), vec![keys, Arc::new(counts)], None)?;
        Ok(Arc::new(MapArray::try_new(Arc::clone(entry), offsets, entries, None, *ordered)?))
    }
}

impl Accumulator for Counted {
    fn resize(&mut self, groups: usize) {
        self.sets.resize(groups);
    }

    fn update(&mut self, arguments: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let reader = ColumnReader::new(&arguments[0], false)?;
        let mut value = Vec::new();
        rows.for_each(|row, group, sign| {
            if !reader.is_null(row) {
                value.clear();
                reader.encode(row, &mut value);
                self.sets.change(group, &value, |set| set.add(&value, sign));
            }
        });
        Ok(())
    }

    fn merge(&mut self, partials: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let [column] = partials else { return Err(wrong_partials()) };
        let Some(column) = column.as_binary_opt::<i32>() else { return Err(wrong_partials()) };
        let mut failure = None;
        rows.for_each(|row, group, _| match ValueCounts::decode(&mut column.value(row)) {
            Ok(other) => {
                for (value, &count) in &other.counts {
                    self.sets.change(group, value, |set| set.add(value, count));
                }
            }
            Err(e) => failure = Some(e),
        });
        failure.map_or(Ok(()), Err)
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        match &self.result {
            Outcome::Multiset(result) => self.multisets(groups, result),
            Outcome::Extreme { max } => {
                let extremes = groups.iter().map(|&g| {
                    let mut present = self.sets.get(g).present().map(|(value, _)| value);
                    if *max { present.next_back() } else { present.next() }
                });
                decode_column(extremes, &self.ty)
            }
        }
    }

    fn partial(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut builder = BinaryBuilder::new();
        let mut bytes = Vec::new();
        for &group in groups {
            bytes.clear();
            self.sets.get(group).encode(&mut bytes);
            builder.append_value(&bytes);
        }
        Ok(vec![Arc::new(builder.finish())])
    }

    fn decode(&mut self, group: u32, input: &mut &[u8]) -> Result<()> {
        self.sets.decode(group, input)
    }

    fn wants_elements(&self, group: u32) -> bool {
        self.sets.wants_elements(group)
    }

    fn restore_element(&mut self, group: u32, value: &[u8], stored: &[u8]) -> Result<()> {
        self.sets.restore(group, value, stored)
    }

    fn has_stored_elements(&self, group: u32) -> bool {
        self.sets.is_in_database(group)
    }

    fn note_stored_elements(&mut self, group: u32) {
        self.sets.note_in_database(group);
    }

    fn reset(&mut self, groups: &[u32]) {
        self.sets.reset(groups);
    }

    fn forget(&mut self, groups: &[u32]) {
        self.sets.forget(groups);
    }

    fn freeze(&mut self, chunks: &[usize], puts: &GroupBits, deletes: &GroupBits) -> Box<dyn FrozenAccumulator> {
        Box::new(Frozen(self.sets.freeze(chunks, puts, deletes)))
    }

    fn state_bytes(&self) -> usize {
        Sets::<ValueCounts>::state_bytes()
    }

    fn owns_heap(&self) -> bool {
        true
    }

    fn heap_bytes(&self, groups: &[u32]) -> usize {
        self.sets.heap_bytes(groups)
    }
}

struct Frozen(FrozenSets<ValueCounts>);

impl FrozenAccumulator for Frozen {
    fn encode(&self, index: usize, offset: usize, out: &mut Vec<u8>) {
        self.0.encode(index, offset, out);
    }

    fn is_large(&self, index: usize, offset: usize) -> bool {
        self.0.is_large(index, offset)
    }

    fn elements(&self, group: u32) -> Option<&ElementWrites> {
        self.0.elements(group)
    }
}
