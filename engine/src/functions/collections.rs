//! ARRAY, MAP and ROW: constructors, access and functions.
//!
//! Elements are compared with NULL equal to NULL. Results are gathered: each function lists, for
//! every row, which elements of which argument make up the result.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, MapArray, StringArray, StructArray, UInt32Array,
    make_comparator,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{SortOptions, interleave, take};
use arrow::datatypes::{DataType as ArrowType, Field};
use hurtig_graph::LogicalType as T;

use super::{Call, Function};
use crate::error::{EngineError, Result};
use crate::expr::cast::to_text;
use crate::expr::value::{Kernel, Value, argument};

pub(super) fn find(call: &Call<'_>) -> Result<Option<Function>> {
    let pure = |kernel: Kernel| Ok(Some(Function::pure(kernel)));
    let arrow = call.result.logical.to_arrow();
    match call.name {
        "ARRAY" => pure(Arc::new(array_of)),
        "ROW" => pure(Arc::new(move |values: &[Value], rows| row_of(values, rows, &arrow))),
        "MAP" => Ok(Some(Function::fallible(Arc::new(move |values: &[Value], rows| map_of(values, rows, &arrow))))),
        "FIELD" => field(call).map(Some),
        "ITEM" => pure(match call.ty(0)? {
            T::Map(..) => Arc::new(map_item),
            _ => Arc::new(array_item),
        }),
        "CARDINALITY" => pure(Arc::new(cardinality)),
        "ELEMENT" => Ok(Some(Function::fallible(Arc::new(element)))),
        "ARRAY_APPEND" => pure(lists(Nulls::First, |row, out| {
            out.extend(row.list(0));
            out.push(row.single(1));
        })),
        "ARRAY_PREPEND" => pure(lists(Nulls::First, |row, out| {
            out.push(row.single(1));
            out.extend(row.list(0));
        })),
        "ARRAY_CONCAT" => pure(lists(Nulls::Any, |row, out| {
            (0..row.arguments.len()).for_each(|argument| out.extend(row.list(argument)));
        })),
        "ARRAY_DISTINCT" => pure(lists(Nulls::Any, |row, out| row.list(0).for_each(|e| row.push_new(out, e)))),
        "ARRAY_UNION" => pure(lists(Nulls::Any, |row, out| {
            row.list(0).chain(row.list(1)).for_each(|e| row.push_new(out, e));
        })),
        "ARRAY_EXCEPT" => pure(lists(Nulls::Any, |row, out| {
            row.list(0).filter(|e| !row.contains(row.list(1), *e)).for_each(|e| row.push_new(out, e));
        })),
        "ARRAY_INTERSECT" => pure(lists(Nulls::Any, |row, out| {
            row.list(0).filter(|e| row.contains(row.list(1), *e)).for_each(|e| row.push_new(out, e));
        })),
        "ARRAY_REMOVE" => pure(lists(Nulls::First, |row, out| {
            out.extend(row.list(0).filter(|e| !row.equal(*e, row.single(1))));
        })),
        "ARRAY_REVERSE" => pure(lists(Nulls::Any, |row, out| {
            out.extend(row.list(0));
            out.reverse();
        })),
        "ARRAY_SORT" => pure(array_sort()),
        "ARRAY_SLICE" => pure(array_slice()),
        "ARRAY_CONTAINS" => pure(Arc::new(|values: &[Value], rows| {
            let found = positions(values, rows, true)?;
            Ok(Arc::new(found.into_iter().map(|p| p.map(|p| p > 0)).collect::<BooleanArray>()) as ArrayRef)
        })),
        "ARRAY_POSITION" => pure(Arc::new(|values: &[Value], rows| {
            Ok(Arc::new(positions(values, rows, false)?.into_iter().collect::<Int32Array>()) as ArrayRef)
        })),
        "ARRAY_MAX" | "ARRAY_MIN" => pure(extreme(call.name == "ARRAY_MAX")),
        "ARRAY_JOIN" => pure(array_join(call)?),
        "MAP_KEYS" => pure(map_part(0)),
        "MAP_VALUES" => pure(map_part(1)),
        "MAP_ENTRIES" => pure(Arc::new(map_entries)),
        "MAP_FROM_ARRAYS" => {
            Ok(Some(Function::fallible(Arc::new(move |values: &[Value], rows| map_from_arrays(values, rows, &arrow)))))
        }
        "MAP_UNION" => pure(Arc::new(move |values: &[Value], rows| map_union(values, rows, &arrow))),
        _ => Ok(None),
    }
}

fn as_list(value: &Value) -> Result<&ListArray> {
    value
        .array
        .as_list_opt::<i32>()
        .ok_or_else(|| EngineError::Internal(format!("an ARRAY is expected, not {}", value.array.data_type())))
}

fn as_map(value: &Value) -> Result<&MapArray> {
    value
        .array
        .as_map_opt()
        .ok_or_else(|| EngineError::Internal(format!("a MAP is expected, not {}", value.array.data_type())))
}

fn range(offsets: &OffsetBuffer<i32>, index: usize) -> std::ops::Range<usize> {
    offsets[index] as usize..offsets[index + 1] as usize
}

/// One element: which argument, and where in the argument's (child) array.
type Place = (usize, usize);

/// Lists made of elements of several arrays.
struct Gather<'a> {
    sources: Vec<&'a dyn Array>,
    places: Vec<Place>,
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

impl<'a> Gather<'a> {
    fn new(sources: Vec<&'a dyn Array>) -> Gather<'a> {
        Gather { sources, places: Vec::new(), lengths: Vec::new(), valid: Vec::new() }
    }

    fn push(&mut self, list: Option<Vec<Place>>) {
        self.valid.push(list.is_some());
        let list = list.unwrap_or_default();
        self.lengths.push(list.len());
        self.places.extend(list);
    }

    fn elements(&self) -> Result<ArrayRef> {
        match self.sources.as_slice() {
            [] => Err(EngineError::Internal("a list without sources".to_owned())),
            sources if self.places.is_empty() => Ok(arrow::array::new_empty_array(sources[0].data_type())),
            sources => Ok(interleave(sources, &self.places)?),
        }
    }

    fn nulls(&self) -> Option<NullBuffer> {
        let nulls = NullBuffer::from(self.valid.clone());
        (nulls.null_count() > 0).then_some(nulls)
    }

    fn finish(self) -> Result<ArrayRef> {
        let elements = self.elements()?;
        let field = Arc::new(Field::new("item", elements.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(self.lengths.iter().copied());
        Ok(Arc::new(ListArray::try_new(field, offsets, elements, self.nulls())?))
    }
}

fn array_of(values: &[Value], rows: usize) -> Result<ArrayRef> {
    let mut gather = Gather::new(values.iter().map(|v| v.array.as_ref()).collect());
    for row in 0..rows {
        gather.push(Some(values.iter().enumerate().map(|(i, v)| (i, v.index(row))).collect()));
    }
    gather.finish()
}

fn row_of(values: &[Value], rows: usize, arrow: &ArrowType) -> Result<ArrayRef> {
    let ArrowType::Struct(fields) = arrow else {
        return Err(EngineError::Internal(format!("a ROW is expected, not {arrow}")));
    };
    let columns = values
        .iter()
        .zip(fields)
        .map(|(value, field)| crate::expr::value::retype(value.expand(rows)?, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, None, rows)?))
}

/// FIELD(row, literal position).
fn field(call: &Call<'_>) -> Result<Function> {
    let position = call
        .int(1)
        .and_then(|p| usize::try_from(p).ok())
        .ok_or_else(|| EngineError::Validation("FIELD needs the position of the field as a literal".to_owned()))?;
    Ok(Function::pure(Arc::new(move |values: &[Value], _| {
        let row = argument(values, 0)?;
        let Some(structs) = row.array.as_struct_opt() else {
            return Err(EngineError::Internal(format!("a ROW is expected, not {}", row.array.data_type())));
        };
        let column = structs
            .columns()
            .get(position)
            .ok_or_else(|| EngineError::Internal(format!("a ROW has no field {position}")))?;
        let Some(nulls) = structs.nulls().filter(|nulls| nulls.null_count() > 0) else { return Ok(Arc::clone(column)) };
        // A field of a NULL row is NULL; the values stay where they are.
        Ok(arrow::compute::nullif(column, &BooleanArray::new(!nulls.inner(), None))?)
    })))
}

/// a\[i\], from 1; NULL out of range.
fn array_item(values: &[Value], rows: usize) -> Result<ArrayRef> {
    let (array, index) = (argument(values, 0)?, argument(values, 1)?.longs()?);
    let list = as_list(array)?;
    let places: UInt32Array = (0..rows)
        .map(|row| {
            let at = array.index(row);
            let range = range(list.offsets(), at);
            let position = usize::try_from(index.get(row)?).ok().filter(|p| *p >= 1 && *p <= range.len())?;
            list.is_valid(at).then(|| (range.start + position - 1) as u32)
        })
        .collect();
    Ok(take(list.values(), &places, None)?)
}

/// m\[k\]; NULL if there is no such key.
fn map_item(values: &[Value], rows: usize) -> Result<ArrayRef> {
    let (value, key) = (argument(values, 0)?, argument(values, 1)?);
    let map = as_map(value)?;
    let compare = make_comparator(map.keys(), &key.array, SortOptions::default())?;
    let places: UInt32Array = (0..rows)
        .map(|row| {
            let at = value.index(row);
            if map.is_null(at) || key.is_null(row) {
                return None;
            }
            let wanted = key.index(row);
            range(map.offsets(), at).find(|e| compare(*e, wanted) == Ordering::Equal).map(|e| e as u32)
        })
        .collect();
    Ok(take(map.values(), &places, None)?)
}

fn cardinality(values: &[Value], rows: usize) -> Result<ArrayRef> {
    let value = argument(values, 0)?;
    let offsets = match value.array.as_list_opt::<i32>() {
        Some(list) => list.offsets(),
        None => as_map(value)?.offsets(),
    };
    let array: Int32Array =
        (0..rows).map(|row| (!value.is_null(row)).then(|| range(offsets, value.index(row)).len() as i32)).collect();
    Ok(Arc::new(array))
}

/// The only element; NULL of an empty array.
fn element(values: &[Value], rows: usize) -> Result<ArrayRef> {
    let value = argument(values, 0)?;
    let list = as_list(value)?;
    let places = (0..rows)
        .map(|row| {
            let at = value.index(row);
            let range = range(list.offsets(), at);
            match range.len() {
                _ if list.is_null(at) => Ok(None),
                0 => Ok(None),
                1 => Ok(Some(range.start as u32)),
                n => Err(EngineError::Runtime(format!("ELEMENT needs an array of at most one element, not {n}"))),
            }
        })
        .collect::<Result<UInt32Array>>()?;
    Ok(take(list.values(), &places, None)?)
}

/// Which NULL arguments make the result NULL.
#[derive(Clone, Copy, PartialEq)]
enum Nulls {
    Any,
    First,
}

type Compare = Box<dyn Fn(usize, usize) -> Ordering + Send + Sync>;

/// The arguments of one row.
struct Row<'a> {
    arguments: &'a [Value],
    /// Comparators of the element arrays of each pair of arguments.
    comparators: &'a [Vec<Compare>],
    row: usize,
}

impl Row<'_> {
    /// The elements of an ARRAY argument.
    fn list(&self, argument: usize) -> impl Iterator<Item = Place> + use<> {
        let value = &self.arguments[argument];
        let range = match value.array.as_list_opt::<i32>() {
            Some(list) => range(list.offsets(), value.index(self.row)),
            None => 0..0,
        };
        range.map(move |at| (argument, at))
    }

    /// An argument that is an element itself.
    fn single(&self, argument: usize) -> Place {
        (argument, self.arguments[argument].index(self.row))
    }

    fn equal(&self, a: Place, b: Place) -> bool {
        self.comparators[a.0][b.0](a.1, b.1) == Ordering::Equal
    }

    fn contains(&self, mut list: impl Iterator<Item = Place>, wanted: Place) -> bool {
        list.any(|element| self.equal(element, wanted))
    }

    fn push_new(&self, out: &mut Vec<Place>, element: Place) {
        if !out.iter().any(|known| self.equal(*known, element)) {
            out.push(element);
        }
    }
}

/// The array that an argument's elements stand in: the children of a list, or the array itself.
fn elements(value: &Value) -> &ArrayRef {
    value.array.as_list_opt::<i32>().map_or(&value.array, |list| list.values())
}

/// For nested arrays an element argument is a list too: what counts is the type of the first
/// argument's elements.
fn element_arrays(values: &[Value]) -> Vec<ArrayRef> {
    let first = values.first().map(|v| elements(v).data_type().clone());
    values
        .iter()
        .map(
            |v| {
                if Some(v.array.data_type()) == first.as_ref() { Arc::clone(&v.array) } else { Arc::clone(elements(v)) }
            },
        )
        .collect()
}

fn comparators(arrays: &[ArrayRef]) -> Result<Vec<Vec<Compare>>> {
    arrays
        .iter()
        .map(|a| {
            arrays.iter().map(|b| Ok(Box::new(make_comparator(a, b, SortOptions::default())?) as Compare)).collect()
        })
        .collect()
}

fn lists(nulls: Nulls, f: impl Fn(&Row<'_>, &mut Vec<Place>) + Send + Sync + 'static) -> Kernel {
    Arc::new(move |values: &[Value], rows| {
        let arrays = element_arrays(values);
        let comparators = comparators(&arrays)?;
        let mut gather = Gather::new(arrays.iter().map(AsRef::as_ref).collect());
        for row in 0..rows {
            let null = match nulls {
                Nulls::Any => values.iter().any(|v| v.is_null(row)),
                Nulls::First => values.first().is_some_and(|v| v.is_null(row)),
            };
            if null {
                gather.push(None);
                continue;
            }
            let mut out = Vec::new();
            f(&Row { arguments: values, comparators: &comparators, row }, &mut out);
            gather.push(Some(out));
        }
        gather.finish()
    })
}

/// ARRAY_SORT(a [, ascending [, nulls first]]).
fn array_sort() -> Kernel {
    Arc::new(|values: &[Value], rows| {
        let value = argument(values, 0)?;
        let list = as_list(value)?;
        let flag = |position: usize| values.get(position).map(Value::view::<BooleanArray>).transpose();
        let (ascending, nulls_first) = (flag(1)?, flag(2)?);
        let compare = make_comparator(list.values(), list.values(), SortOptions::default())?;
        let mut gather = Gather::new(vec![list.values().as_ref()]);
        for row in 0..rows {
            let at = value.index(row);
            let ascending = match &ascending {
                Some(flag) => flag.get(row),
                None => Some(true),
            };
            let nulls_first = match &nulls_first {
                Some(flag) => flag.get(row),
                None => ascending,
            };
            let (Some(ascending), Some(nulls_first), true) = (ascending, nulls_first, list.is_valid(at)) else {
                gather.push(None);
                continue;
            };
            let (mut empty, mut full): (Vec<usize>, Vec<usize>) =
                range(list.offsets(), at).partition(|e| list.values().is_null(*e));
            full.sort_by(|a, b| if ascending { compare(*a, *b) } else { compare(*b, *a) });
            let sorted = if nulls_first {
                empty.append(&mut full);
                empty
            } else {
                full.append(&mut empty);
                full
            };
            gather.push(Some(sorted.into_iter().map(|e| (0, e)).collect()));
        }
        gather.finish()
    })
}

/// ARRAY_SLICE(a, from [, to]): both inclusive, negative from the end, 0 as 1.
fn array_slice() -> Kernel {
    Arc::new(|values: &[Value], rows| {
        let value = argument(values, 0)?;
        let list = as_list(value)?;
        let from = argument(values, 1)?.longs()?;
        let to = values.get(2).map(Value::longs).transpose()?;
        let mut gather = Gather::new(vec![list.values().as_ref()]);
        for row in 0..rows {
            let at = value.index(row);
            let range = range(list.offsets(), at);
            let length = range.len() as i64;
            let position = |p: i64| match p {
                0 => 1,
                p if p < 0 => length + p + 1,
                p => p,
            };
            let to = match &to {
                Some(to) => to.get(row).map(position),
                None => Some(length),
            };
            let (Some(from), Some(to), true) = (from.get(row).map(position), to, list.is_valid(at)) else {
                gather.push(None);
                continue;
            };
            let (from, to) = (from.max(1), to.min(length));
            gather.push(Some((from..=to).map(|p| (0, range.start + p as usize - 1)).collect()));
        }
        gather.finish()
    })
}

/// The position of argument 1 in the list of argument 0, 0 if it is not there.
fn positions(values: &[Value], rows: usize, nulls_match: bool) -> Result<Vec<Option<i32>>> {
    let (value, wanted) = (argument(values, 0)?, argument(values, 1)?);
    let list = as_list(value)?;
    let compare = make_comparator(list.values(), &wanted.array, SortOptions::default())?;
    Ok((0..rows)
        .map(|row| {
            let at = value.index(row);
            if list.is_null(at) || (wanted.is_null(row) && !nulls_match) {
                return None;
            }
            let target = wanted.index(row);
            let found = range(list.offsets(), at).position(|e| compare(e, target) == Ordering::Equal);
            Some(found.map_or(0, |p| p as i32 + 1))
        })
        .collect())
}

fn extreme(greatest: bool) -> Kernel {
    Arc::new(move |values: &[Value], rows| {
        let value = argument(values, 0)?;
        let list = as_list(value)?;
        let compare = make_comparator(list.values(), list.values(), SortOptions::default())?;
        let places: UInt32Array = (0..rows)
            .map(|row| {
                let at = value.index(row);
                if list.is_null(at) {
                    return None;
                }
                let present = range(list.offsets(), at).filter(|e| list.values().is_valid(*e));
                let best = if greatest {
                    present.max_by(|a, b| compare(*a, *b))
                } else {
                    present.min_by(|a, b| compare(*a, *b))
                };
                best.map(|e| e as u32)
            })
            .collect();
        Ok(take(list.values(), &places, None)?)
    })
}

/// ARRAY_JOIN(a, separator [, text for NULL]); without that text NULLs are left out.
fn array_join(call: &Call<'_>) -> Result<Kernel> {
    let T::Array(item) = call.ty(0)? else {
        return Err(EngineError::Validation("ARRAY_JOIN joins an ARRAY".to_owned()));
    };
    let item = item.logical.clone();
    let zone = call.context.zone;
    Ok(Arc::new(move |values: &[Value], rows| {
        let value = argument(values, 0)?;
        let list = as_list(value)?;
        let separator = argument(values, 1)?.view::<StringArray>()?;
        let replacement = values.get(2).map(Value::view::<StringArray>).transpose()?;
        let array = (0..rows)
            .map(|row| {
                let at = value.index(row);
                let replacement = match &replacement {
                    Some(text) => match text.get(row) {
                        Some(text) => Some(text),
                        None => return Ok(None),
                    },
                    None => None,
                };
                let (Some(separator), true) = (separator.get(row), list.is_valid(at)) else { return Ok(None) };
                let mut parts = Vec::new();
                for element in range(list.offsets(), at) {
                    match to_text(&item, zone, list.values(), element)? {
                        Some(text) => parts.push(text),
                        None => parts.extend(replacement.map(str::to_owned)),
                    }
                }
                Ok(Some(parts.join(separator)))
            })
            .collect::<Result<StringArray>>()?;
        Ok(Arc::new(array) as ArrayRef)
    }))
}

/// Builds a map of keys and values; of equal keys the last wins.
fn build_map(
    keys: &[&dyn Array],
    values: &[&dyn Array],
    entries: Vec<Option<Vec<(Place, Place)>>>,
    arrow: &ArrowType,
) -> Result<ArrayRef> {
    let ArrowType::Map(field, sorted) = arrow else {
        return Err(EngineError::Internal(format!("a MAP is expected, not {arrow}")));
    };
    let ArrowType::Struct(fields) = field.data_type() else {
        return Err(EngineError::Internal(format!("a MAP's entries are expected, not {arrow}")));
    };
    let comparators = keys
        .iter()
        .map(|a| keys.iter().map(|b| make_comparator(*a, *b, SortOptions::default())).collect::<Result<Vec<_>, _>>())
        .collect::<Result<Vec<_>, _>>()?;
    let mut key_gather = Gather::new(keys.to_vec());
    let mut value_gather = Gather::new(values.to_vec());
    for row in entries {
        let Some(row) = row else {
            key_gather.push(None);
            value_gather.push(None);
            continue;
        };
        let mut kept: Vec<(Place, Place)> = Vec::with_capacity(row.len());
        for (key, value) in row {
            if keys[key.0].is_null(key.1) {
                return Err(EngineError::Runtime("a MAP cannot have a NULL key".to_owned()));
            }
            match kept.iter_mut().find(|(k, _)| comparators[k.0][key.0](k.1, key.1) == Ordering::Equal) {
                Some(known) => known.1 = value,
                None => kept.push((key, value)),
            }
        }
        key_gather.push(Some(kept.iter().map(|(k, _)| *k).collect()));
        value_gather.push(Some(kept.iter().map(|(_, v)| *v).collect()));
    }
    let columns = key_gather
        .elements()
        .and_then(|k| Ok(vec![k, value_gather.elements()?]))?
        .into_iter()
        .zip(fields)
        .map(|(column, field)| crate::expr::value::retype(column, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let offsets = OffsetBuffer::from_lengths(key_gather.lengths.iter().copied());
    let nulls = key_gather.nulls();
    let entries = StructArray::try_new(fields.clone(), columns, None)?;
    Ok(Arc::new(MapArray::try_new(Arc::clone(field), offsets, entries, nulls, *sorted)?))
}

/// MAP\[k, v, ...\]
fn map_of(values: &[Value], rows: usize, arrow: &ArrowType) -> Result<ArrayRef> {
    let keys: Vec<&Value> = values.iter().step_by(2).collect();
    let items: Vec<&Value> = values.iter().skip(1).step_by(2).collect();
    let entries = (0..rows)
        .map(|row| Some((0..keys.len()).map(|i| ((i, keys[i].index(row)), (i, items[i].index(row)))).collect()))
        .collect();
    let arrays = |values: &[&Value]| values.iter().map(|v| Arc::clone(&v.array)).collect::<Vec<ArrayRef>>();
    let (keys, items) = (arrays(&keys), arrays(&items));
    let key_refs: Vec<&dyn Array> = keys.iter().map(AsRef::as_ref).collect();
    let item_refs: Vec<&dyn Array> = items.iter().map(AsRef::as_ref).collect();
    build_map(&key_refs, &item_refs, entries, arrow)
}

fn map_from_arrays(values: &[Value], rows: usize, arrow: &ArrowType) -> Result<ArrayRef> {
    let (k, v) = (argument(values, 0)?, argument(values, 1)?);
    let (keys, items) = (as_list(k)?, as_list(v)?);
    let mut entries = Vec::with_capacity(rows);
    for row in 0..rows {
        let (i, j) = (k.index(row), v.index(row));
        if keys.is_null(i) || items.is_null(j) {
            entries.push(None);
            continue;
        }
        let (ks, vs) = (range(keys.offsets(), i), range(items.offsets(), j));
        if ks.len() != vs.len() {
            return Err(EngineError::Runtime(format!(
                "MAP_FROM_ARRAYS needs as many values as keys, not {} and {}",
                vs.len(),
                ks.len()
            )));
        }
        entries.push(Some(ks.zip(vs).map(|(k, v)| ((0, k), (0, v))).collect()));
    }
    build_map(&[keys.values().as_ref()], &[items.values().as_ref()], entries, arrow)
}

fn map_union(values: &[Value], rows: usize, arrow: &ArrowType) -> Result<ArrayRef> {
    let maps = values.iter().map(as_map).collect::<Result<Vec<_>>>()?;
    let entries = (0..rows)
        .map(|row| {
            if values.iter().any(|v| v.is_null(row)) {
                return None;
            }
            let of = |(i, map): (usize, &&MapArray)| {
                range(map.offsets(), values[i].index(row)).map(move |e| ((i, e), (i, e))).collect::<Vec<_>>()
            };
            Some(maps.iter().enumerate().flat_map(of).collect())
        })
        .collect();
    let keys: Vec<&dyn Array> = maps.iter().map(|m| m.keys().as_ref()).collect();
    let items: Vec<&dyn Array> = maps.iter().map(|m| m.values().as_ref()).collect();
    build_map(&keys, &items, entries, arrow)
}

/// The keys (0) or values (1) of a map as an array.
fn map_part(part: usize) -> Kernel {
    Arc::new(move |values: &[Value], _| {
        let map = as_map(argument(values, 0)?)?;
        let elements = Arc::clone(map.entries().column(part));
        let field = Arc::new(Field::new("item", elements.data_type().clone(), true));
        Ok(Arc::new(ListArray::try_new(field, map.offsets().clone(), elements, map.nulls().cloned())?) as ArrayRef)
    })
}

fn map_entries(values: &[Value], _: usize) -> Result<ArrayRef> {
    let map = as_map(argument(values, 0)?)?;
    let entries = map.entries();
    let fields: Vec<Field> = ["key", "value"]
        .iter()
        .zip(entries.columns())
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let rows = StructArray::try_new(fields.into(), entries.columns().to_vec(), None)?;
    let field = Arc::new(Field::new("item", rows.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, map.offsets().clone(), Arc::new(rows), map.nulls().cloned())?))
}
