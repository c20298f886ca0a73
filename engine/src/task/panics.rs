//! A panic in a task becomes the task's failure, with its place and backtrace where a hook could
//! record them.
//!
//! A library sets no panic hook, so by itself it knows only the message. A program that owns its
//! process calls [`record_backtraces`] once.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
    static RECORDED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Sets a panic hook that keeps place and backtrace of panics in tasks for the task's failure
/// message. Panics elsewhere go to the hook that was set before.
pub fn record_backtraces() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !IN_TASK.get() {
            return previous(info);
        }
        let place = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        let backtrace = Backtrace::force_capture();
        RECORDED.with_borrow_mut(|r| *r = Some(format!("{place}\n{backtrace}")));
    }));
}

/// Runs a part of a task.
///
/// # Errors
/// The text of the panic, if it panicked.
pub fn guard<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = IN_TASK.replace(true);
    // The task is dropped after a panic without being used again.
    let result = catch_unwind(AssertUnwindSafe(work));
    IN_TASK.set(outer);
    result.map_err(|payload| {
        let recorded = RECORDED.with_borrow_mut(Option::take).unwrap_or_default();
        format!("panic: {}{recorded}", message(payload.as_ref()))
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
