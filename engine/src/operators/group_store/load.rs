//! From the database into a store: groups by their keys, or page by page. A group with a large set has
//! entries behind its own, one an element; no other group's key begins with its key.

use hurtig_state::backend::KeyedBackend;
use hurtig_state::encoding::successor;

use super::{AggregatePlan, GroupStore, HAS_ROWS, HAS_TIME, VALUE_FORMAT, VALUE_SCHEMA, VALUE_SCHEMA_LARGE};
use crate::aggregates::columns::take_array;
use crate::error::{EngineError, Result};

/// Elements of a set that are read at once.
const ELEMENTS: usize = 4_096;

/// A group as the database has it.
pub struct StoredGroup {
    /// Its database key.
    pub key: Vec<u8>,
    /// The value of its own entry.
    pub value: Vec<u8>,
    /// The entries behind it, without the group's key.
    pub elements: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The groups of up to about `limit` entries from `from` to before `to`, and where the rest begins.
pub fn stored_groups(
    backend: &KeyedBackend,
    from: &[u8],
    to: &[u8],
    limit: usize,
) -> Result<(Vec<StoredGroup>, Option<Vec<u8>>)> {
    let mut groups: Vec<StoredGroup> = Vec::new();
    let mut page = backend.scan(from, to, limit)?;
    loop {
        let more = page.len() == limit;
        for (key, value) in page {
            match groups.last_mut().filter(|group| key.starts_with(&group.key)) {
                Some(group) => group.elements.push((key[group.key.len()..].to_vec(), value)),
                None => groups.push(StoredGroup { key, value, elements: Vec::new() }),
            }
        }
        let Some(last) = groups.last().filter(|_| more) else { return Ok((groups, None)) };
        // Where the last group may go on; where another begins the next page does.
        let mut next = last.key.clone();
        next.extend_from_slice(last.elements.last().map_or(&[][..], |(element, _)| element));
        next.push(0);
        match backend.scan(&next, to, 1)?.into_iter().next() {
            None => return Ok((groups, None)),
            Some((key, _)) if !key.starts_with(&last.key) => return Ok((groups, Some(key))),
            Some(_) => page = backend.scan(&next, to, limit)?,
        }
        if !page.iter().all(|(key, _)| key.starts_with(&last.key)) {
            page.retain(|(key, _)| key.starts_with(&last.key));
            let end = successor(&last.key).unwrap_or_else(|| to.to_vec());
            for (key, value) in page {
                if let Some(group) = groups.last_mut() {
                    group.elements.push((key[group.key.len()..].to_vec(), value));
                }
            }
            return Ok((groups, Some(end)));
        }
    }
}

impl GroupStore {
    /// Sets a group to what the database has of it.
    pub fn load(&mut self, plan: &AggregatePlan, group: u32, stored: &StoredGroup) -> Result<()> {
        self.load_value(plan, group, &stored.value)?;
        self.load_elements(group, &stored.elements)
    }

    /// Sets groups to what the database has of them under `keys`, if anything.
    pub fn load_keys(
        &mut self,
        plan: &AggregatePlan,
        backend: &KeyedBackend,
        groups: &[u32],
        keys: &[Vec<u8>],
    ) -> Result<()> {
        for ((&group, key), value) in groups.iter().zip(keys).zip(backend.multi_get(keys)?) {
            let Some(value) = value else { continue };
            self.load_value(plan, group, &value)?;
            if !self.accumulators.iter().any(|a| a.wants_elements(group)) {
                continue;
            }
            let mut from = key.clone();
            from.push(0);
            let to = successor(key).unwrap_or_else(|| vec![0xff; key.len() + 1]);
            loop {
                let mut page = backend.scan(&from, &to, ELEMENTS)?;
                let last = page.last().map(|(key, _)| key.clone());
                let more = page.len() == ELEMENTS;
                page.iter_mut().for_each(|(element, _)| drop(element.drain(..key.len())));
                self.load_elements(group, &page)?;
                let Some(last) = last.filter(|_| more) else { break };
                from = last;
                from.push(0);
            }
        }
        Ok(())
    }

    fn load_elements(&mut self, group: u32, elements: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        if elements.is_empty() {
            return Ok(());
        }
        self.heap_bytes = self.heap_bytes.saturating_sub(self.heap_of(&[group]));
        for (element, stored) in elements {
            let Some((&call, value)) = element.split_first() else { continue };
            if let Some(accumulator) = self.accumulators.get_mut(usize::from(call)) {
                accumulator.restore_element(group, value, stored)?;
            }
        }
        self.heap_bytes += self.heap_of(&[group]);
        Ok(())
    }

    /// Sets a group to what the database has in its own entry.
    fn load_value(&mut self, plan: &AggregatePlan, group: u32, value: &[u8]) -> Result<()> {
        let mut input = value;
        let [format, flags, s0, s1] = take_array(&mut input)?;
        let schema = u16::from_le_bytes([s0, s1]);
        if format != VALUE_FORMAT || ![VALUE_SCHEMA, VALUE_SCHEMA_LARGE].contains(&schema) {
            return Err(EngineError::Internal(format!(
                "state of an aggregate has format {format} and schema {schema}, which this version cannot read"
            )));
        }
        if flags & HAS_ROWS != 0 {
            let rows = i64::from_le_bytes(take_array(&mut input)?);
            if plan.retracts {
                *self.rows.get_mut(group) = rows;
            }
        }
        if flags & HAS_TIME != 0 {
            let changed = i64::from_le_bytes(take_array(&mut input)?);
            if plan.timed {
                *self.changed.get_mut(group) = changed;
            }
        }
        self.heap_bytes = self.heap_bytes.saturating_sub(self.heap_of(&[group]));
        for accumulator in &mut self.accumulators {
            accumulator.decode(group, &mut input)?;
        }
        self.heap_bytes += self.heap_of(&[group]);
        self.present.insert(group);
        self.stored.insert(group);
        Ok(())
    }
}
