//! DISTINCT: only the first appearance of a value reaches the function, and only its last
//! retraction takes it back. The state is the set of values with their counts, beside the
//! function's own.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryBuilder};
use arrow::datatypes::DataType;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::chunks::GroupBits;
use super::columns::{ColumnReader, decode_column, put_bytes, take_array, take_sized};
use super::grouped::wrong_partials;
use super::sets::{Element, ElementSet, ElementWrites, FrozenSets, Sets};
use super::{Accumulator, AggregateSpec, FilterScratch, FrozenAccumulator, Rows};
use crate::error::Result;

pub(super) fn create(spec: &AggregateSpec) -> Result<Box<dyn Accumulator>> {
    // One set of a call is kept element by element: this one, which has all that the function's has.
    let inner = super::create(&AggregateSpec { distinct: false, keeps_elements: false, ..spec.clone() })?;
    Ok(Box::new(Distinct {
        inner,
        ty: spec.arguments[0].clone(),
        values: Sets::new(spec.keeps_elements),
        scratch: FilterScratch::default(),
    }))
}

/// What a value weighs beside its bytes: its entry, its box, the room of a table that is not full.
const ENTRY_BYTES: usize = 80;

/// How often a value is there, and when it came first.
#[derive(Clone, Copy)]
struct Seen {
    count: i64,
    order: u64,
}

/// The values of a group: `[0]` for NULL, else `[1]` and the encoded value.
#[derive(Clone)]
struct ValueSet {
    values: HashMap<Box<[u8]>, Seen, FixedState>,
    next: u64,
    bytes: usize,
}

impl Default for ValueSet {
    fn default() -> Self {
        ValueSet { values: HashMap::with_hasher(FixedState::default()), next: 0, bytes: 0 }
    }
}

impl ValueSet {
    /// Adds `change` appearances; +1 or -1 when the value has thereby come or gone, else 0.
    fn add(&mut self, value: &[u8], change: i64) -> i64 {
        if let Some(seen) = self.values.get_mut(value) {
            seen.count += change;
            if seen.count > 0 {
                return 0;
            }
            self.values.remove(value);
            self.bytes -= value.len() + ENTRY_BYTES;
            return -1;
        }
        // The retraction of a value that is not there is ignored.
        if change <= 0 {
            return 0;
        }
        self.values.insert(value.into(), Seen { count: change, order: self.next });
        self.next += 1;
        self.bytes += value.len() + ENTRY_BYTES;
        1
    }

    /// Values with counts in order of first appearance.
    fn in_order(&self) -> Vec<(&[u8], i64)> {
        let mut all: Vec<_> =
            self.values.iter().map(|(value, seen)| (seen.order, value.as_ref(), seen.count)).collect();
        all.sort_unstable_by_key(|(order, _, _)| *order);
        all.into_iter().map(|(_, value, count)| (value, count)).collect()
    }
}

impl ElementSet for ValueSet {
    fn len(&self) -> usize {
        self.values.len()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn get(&self, value: &[u8]) -> Option<Element> {
        self.values.get(value).map(|seen| Element { count: seen.count, order: seen.order })
    }

    fn restore(&mut self, value: &[u8], element: Element) {
        self.values.insert(value.into(), Seen { count: element.count, order: element.order });
        self.bytes += value.len() + ENTRY_BYTES;
    }

    fn for_each(&self, f: &mut dyn FnMut(&[u8], Element)) {
        for (value, seen) in &self.values {
            f(value, Element { count: seen.count, order: seen.order });
        }
    }

    fn next_order(&self) -> u64 {
        self.next
    }

    fn set_next_order(&mut self, next: u64) {
        self.next = next;
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.values.len() as u32).to_le_bytes());
        for (value, count) in self.in_order() {
            put_bytes(value, out);
            out.extend_from_slice(&count.to_le_bytes());
        }
    }

    fn decode(input: &mut &[u8]) -> Result<ValueSet> {
        let length = u32::from_le_bytes(take_array(input)?);
        let mut set = ValueSet::default();
        for _ in 0..length {
            let value = take_sized(input)?;
            set.add(value, i64::from_le_bytes(take_array(input)?));
        }
        Ok(set)
    }
}

struct Distinct {
    inner: Box<dyn Accumulator>,
    ty: DataType,
    values: Sets<ValueSet>,
    scratch: FilterScratch,
}

impl Accumulator for Distinct {
    fn resize(&mut self, groups: usize) {
        self.values.resize(groups);
        self.inner.resize(groups);
    }

    fn update(&mut self, arguments: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let reader = ColumnReader::new(&arguments[0], true)?;
        let mut value = Vec::new();
        self.scratch.clear();
        rows.for_each(|row, group, sign| {
            value.clear();
            let null = reader.is_null(row);
            value.push(u8::from(!null));
            if !null {
                reader.encode(row, &mut value);
            }
            let change = self.values.change(group, &value, |set| set.add(&value, sign));
            if change != 0 {
                self.scratch.push(row, group, change);
            }
        });
        self.inner.update(arguments, &self.scratch.rows(rows))
    }

    fn merge(&mut self, partials: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let [column] = partials else { return Err(wrong_partials()) };
        let Some(column) = column.as_binary_opt::<i32>() else { return Err(wrong_partials()) };
        let mut others = Vec::with_capacity(rows.groups.len());
        let mut failure = None;
        rows.for_each(|row, group, _| match ValueSet::decode(&mut column.value(row)) {
            Ok(other) => others.push((group, other)),
            Err(e) => failure = Some(e),
        });
        if let Some(failure) = failure {
            return Err(failure);
        }
        let mut fresh = Vec::new();
        self.scratch.clear();
        for (group, other) in &others {
            for (value, count) in other.in_order() {
                if self.values.change(*group, value, |set| set.add(value, count)) > 0 {
                    self.scratch.push(fresh.len(), *group, 1);
                    fresh.push(value);
                }
            }
        }
        let values = decode_column(fresh.into_iter().map(|v| (v[0] != 0).then_some(&v[1..])), &self.ty)?;
        self.inner.update(&[values], &self.scratch.rows(&Rows { signs: None, ..*rows }))
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        self.inner.evaluate(groups)
    }

    fn partial(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut builder = BinaryBuilder::new();
        let mut bytes = Vec::new();
        for &group in groups {
            bytes.clear();
            self.values.get(group).encode(&mut bytes);
            builder.append_value(&bytes);
        }
        Ok(vec![Arc::new(builder.finish())])
    }

    fn decode(&mut self, group: u32, input: &mut &[u8]) -> Result<()> {
        self.values.decode(group, input)?;
        self.inner.decode(group, input)
    }

    fn wants_elements(&self, group: u32) -> bool {
        self.values.wants_elements(group)
    }

    fn restore_element(&mut self, group: u32, value: &[u8], stored: &[u8]) -> Result<()> {
        self.values.restore(group, value, stored)
    }

    fn has_stored_elements(&self, group: u32) -> bool {
        self.values.is_in_database(group)
    }

    fn note_stored_elements(&mut self, group: u32) {
        self.values.note_in_database(group);
    }

    fn reset(&mut self, groups: &[u32]) {
        self.values.reset(groups);
        self.inner.reset(groups);
    }

    fn forget(&mut self, groups: &[u32]) {
        self.values.forget(groups);
        self.inner.forget(groups);
    }

    fn freeze(&mut self, chunks: &[usize], puts: &GroupBits, deletes: &GroupBits) -> Box<dyn FrozenAccumulator> {
        let values = self.values.freeze(chunks, puts, deletes);
        Box::new(Frozen { values, inner: self.inner.freeze(chunks, puts, deletes) })
    }

    fn state_bytes(&self) -> usize {
        Sets::<ValueSet>::state_bytes() + self.inner.state_bytes()
    }

    fn owns_heap(&self) -> bool {
        true
    }

    fn heap_bytes(&self, groups: &[u32]) -> usize {
        self.values.heap_bytes(groups) + self.inner.heap_bytes(groups)
    }
}

struct Frozen {
    values: FrozenSets<ValueSet>,
    inner: Box<dyn FrozenAccumulator>,
}

impl FrozenAccumulator for Frozen {
    fn encode(&self, index: usize, offset: usize, out: &mut Vec<u8>) {
        self.values.encode(index, offset, out);
        self.inner.encode(index, offset, out);
    }

    fn is_large(&self, index: usize, offset: usize) -> bool {
        self.values.is_large(index, offset)
    }

    fn elements(&self, group: u32) -> Option<&ElementWrites> {
        self.values.elements(group)
    }
}
