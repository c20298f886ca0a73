//! The arithmetic of TUMBLE, HOP and CUMULATE windows: slices, windows of a row, when they fire.
//!
//! All times here are local wall-clock ms: for TIMESTAMP the value itself, for TIMESTAMP_LTZ the
//! instant in the session's zone. Only [`Window::trigger`] goes back to instants, by the rules of
//! Flink for hours that daylight saving time repeats or leaves out.

use arrow::array::ArrayRef;
use hurtig_graph::{LogicalType, RowSchema, TimeAttribute};
use hurtig_proto::v1;

use crate::aggregates::columns::time_values_ms;
use crate::error::{EngineError, Result};
use crate::expr::zone::Zone;

/// Which windows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowShape {
    /// Adjacent windows of one size.
    Tumble,
    /// Windows of one size that start every slide.
    Hop,
    /// Windows of one start that grow by a step up to the full size.
    Cumulate,
}

/// A window definition.
#[derive(Debug, Clone)]
pub struct Window {
    /// Which windows there are.
    pub shape: WindowShape,
    /// The (largest) size in ms.
    pub size: i64,
    /// TUMBLE: the size; HOP: the slide; CUMULATE: the step.
    pub slide: i64,
    /// Offset of the windows in ms.
    pub offset: i64,
    /// The zone of TIMESTAMP_LTZ windows.
    pub zone: Zone,
    /// The time column.
    pub time_column: usize,
    /// The type of the time column.
    pub time_type: LogicalType,
}

impl Window {
    /// The definition over rows of `input`. For aggregation sizes must be multiples of the slide.
    ///
    /// # Errors
    /// A definition that Flink refuses too.
    pub fn from_spec(spec: &v1::WindowSpec, input: &RowSchema, aggregated: bool) -> Result<Window> {
        let invalid = |reason: String| EngineError::Validation(format!("window: {reason}"));
        let shape = match spec.kind() {
            v1::WindowKind::Tumble => WindowShape::Tumble,
            v1::WindowKind::Hop => WindowShape::Hop,
            v1::WindowKind::Cumulate => WindowShape::Cumulate,
            v1::WindowKind::Unspecified => return Err(invalid("the kind is not set".into())),
        };
        let slide = if shape == WindowShape::Tumble { spec.size_ms } else { spec.slide_ms };
        if spec.size_ms <= 0 || slide <= 0 {
            return Err(invalid(format!("size ({} ms) and slide or step ({slide} ms) must be positive", spec.size_ms)));
        }
        let multiple = spec.size_ms % slide == 0;
        if !multiple && (aggregated || shape == WindowShape::Cumulate) {
            return Err(invalid(format!(
                "the size ({} ms) must be a multiple of the slide or step ({slide} ms)",
                spec.size_ms
            )));
        }
        let field = input.fields.get(spec.time_column as usize).ok_or_else(|| {
            invalid(format!("time column {} does not exist: the input has {}", spec.time_column, input.len()))
        })?;
        if !field.data_type.logical.is_timestamp() {
            return Err(invalid(format!(
                "the time column '{}' is {}: it must be TIMESTAMP or TIMESTAMP_LTZ",
                field.name, field.data_type
            )));
        }
        if field.time == TimeAttribute::Proctime {
            return Err(EngineError::Unsupported(format!(
                "windows over the processing-time column '{}' are not supported: use an event-time column",
                field.name
            )));
        }
        let zone = match &field.data_type.logical {
            LogicalType::TimestampLtz(_) if !spec.time_zone.is_empty() => Zone::parse(&spec.time_zone)
                .ok_or_else(|| invalid(format!("there is no time zone '{}'", spec.time_zone)))?,
            _ => Zone::UTC,
        };
        Ok(Window {
            shape,
            size: spec.size_ms,
            slide,
            offset: spec.offset_ms,
            zone,
            time_column: spec.time_column as usize,
            time_type: field.data_type.logical.clone(),
        })
    }

    /// Rows' times as local ms.
    ///
    /// # Errors
    /// A NULL: every row of a window has a time.
    pub fn local_times(&self, column: &ArrayRef) -> Result<arrow::buffer::ScalarBuffer<i64>> {
        let (times, nulls) = time_values_ms(column)?;
        if nulls.is_some_and(|n| n.null_count() > 0) {
            return Err(EngineError::Runtime(
                "the time column of a window is NULL: filter out rows without a time before the window".into(),
            ));
        }
        if self.zone == Zone::UTC {
            return Ok(times);
        }
        // Offsets change at quarter hours only, and rows are mostly near in time.
        const QUARTER: i64 = 900_000;
        let mut cached = (i64::MIN, 0);
        Ok(times
            .iter()
            .map(|&t| {
                let quarter = t.div_euclid(QUARTER);
                if cached.0 != quarter {
                    cached = (quarter, self.zone.offset_at(quarter * QUARTER));
                }
                t.wrapping_add(cached.1)
            })
            .collect())
    }

    /// Start of the aligned interval of `width` that holds `time`.
    #[inline]
    fn floor(&self, time: i64, width: i64) -> i64 {
        time - (time - self.offset).rem_euclid(width)
    }

    /// End of the slice of a row: slices are as wide as the slide.
    #[inline]
    pub fn slice_end(&self, time: i64) -> i64 {
        self.floor(time, self.slide) + self.slide
    }

    /// End of the last window that holds the slice.
    pub fn last_window(&self, slice_end: i64) -> i64 {
        match self.shape {
            WindowShape::Tumble => slice_end,
            WindowShape::Hop => slice_end - self.slide + self.size,
            WindowShape::Cumulate => self.floor(slice_end - 1, self.size) + self.size,
        }
    }

    /// Start of the window that ends at `end`.
    pub fn window_start(&self, end: i64) -> i64 {
        match self.shape {
            WindowShape::Cumulate => self.floor(end - 1, self.size),
            _ => end - self.size,
        }
    }

    /// The watermark at which the window that ends at `end` fires.
    #[inline]
    pub fn trigger(&self, end: i64) -> i64 {
        match self.zone {
            Zone::Fixed(0) => end - 1,
            _ => self.local_to_timer(end - 1),
        }
    }

    /// In an hour that occurs twice the later instant, in a gap its beginning.
    fn local_to_timer(&self, local: i64) -> i64 {
        const HOUR: i64 = 3_600_000;
        let (this, next) = (self.zone.to_utc(local), self.zone.to_utc(local + HOUR));
        if next - this > HOUR {
            next - HOUR
        } else if next == this {
            this - this % HOUR
        } else {
            this
        }
    }

    /// The instant of a local time in the unit and kind of the time column's type, for `window_time`.
    pub fn window_time(&self, end: i64) -> i64 {
        self.zone.to_utc(end - 1)
    }

    /// Calls `f(start, end)` for each window of a row, in the order in which Flink's table function
    /// emits them: HOP latest first, CUMULATE smallest first.
    pub fn for_each_window(&self, time: i64, mut f: impl FnMut(i64, i64)) {
        match self.shape {
            WindowShape::Tumble => {
                let start = self.floor(time, self.size);
                f(start, start + self.size);
            }
            WindowShape::Hop => {
                let mut start = self.floor(time, self.slide);
                while start > time - self.size {
                    f(start, start + self.size);
                    start -= self.slide;
                }
            }
            WindowShape::Cumulate => {
                let start = self.floor(time, self.size);
                let mut end = self.slice_end(time);
                while end <= start + self.size {
                    f(start, end);
                    end += self.slide;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn window(shape: WindowShape, size: i64, slide: i64, offset: i64) -> Window {
        Window { shape, size, slide, offset, zone: Zone::UTC, time_column: 0, time_type: LogicalType::Timestamp(3) }
    }

    fn windows(window: &Window, time: i64) -> Vec<(i64, i64)> {
        let mut all = Vec::new();
        window.for_each_window(time, |s, e| all.push((s, e)));
        all
    }

    #[test]
    fn starts_are_floored_also_before_the_epoch_and_with_offsets() {
        let tumble = window(WindowShape::Tumble, 10_000, 10_000, 3_000);
        assert_eq!(windows(&tumble, 1_000), [(-7_000, 3_000)]);
        assert_eq!(windows(&tumble, 3_000), [(3_000, 13_000)]);
        assert_eq!(windows(&window(WindowShape::Tumble, 10, 10, 0), -1), [(-10, 0)]);
        assert_eq!(windows(&window(WindowShape::Tumble, 10, 10, -3), 6), [(-3, 7)]);
    }

    #[test]
    fn hop_gives_the_latest_window_first_and_cumulate_the_smallest() {
        assert_eq!(windows(&window(WindowShape::Hop, 10, 5, 0), 12), [(10, 20), (5, 15)]);
        assert_eq!(windows(&window(WindowShape::Hop, 7, 5, 0), 12), [(10, 17)]);
        assert_eq!(windows(&window(WindowShape::Cumulate, 15, 5, 0), 7), [(0, 10), (0, 15)]);
    }

    #[test]
    fn a_slice_ends_with_its_last_window() {
        assert_eq!(window(WindowShape::Hop, 20, 5, 0).last_window(10), 25);
        assert_eq!(window(WindowShape::Cumulate, 15, 5, 0).last_window(5), 15);
        assert_eq!(window(WindowShape::Cumulate, 15, 5, 0).last_window(15), 15);
        assert_eq!(window(WindowShape::Cumulate, 15, 5, 0).window_start(15), 0);
    }

    #[test]
    fn windows_fire_by_the_clock_of_their_zone() {
        let mut day = window(WindowShape::Tumble, 86_400_000, 86_400_000, 0);
        day.zone = Zone::parse("America/Los_Angeles").unwrap();
        // The local day 2021-03-14 has 23 hours and ends at 2021-03-15T07:00Z.
        let end = 1_615_766_400_000; // 2021-03-15 00:00 as local ms
        assert_eq!(day.trigger(end), 1_615_791_600_000 - 1);
        // The hour from 01:00 on 2021-11-07 occurs twice: its window fires after the second.
        let mut hour = window(WindowShape::Tumble, 3_600_000, 3_600_000, 0);
        hour.zone = day.zone;
        let local_two = 1_636_250_400_000; // 2021-11-07 02:00 as local ms
        assert_eq!(hour.trigger(local_two), 1_636_279_200_000 - 1);
    }
}
