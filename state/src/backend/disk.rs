//! Room on a disk.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes that an unprivileged process may still write to the file system of `path`, or of its
/// nearest ancestor that exists. `None`: the system does not say.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|p| p.exists())?;
    let name = CString::new(existing.as_os_str().as_bytes()).ok()?;
    // SAFETY: `statvfs` is plain data, for which zeroes are valid.
    let mut figures: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `name` ends with a zero byte and `figures` is writable; both live through the call.
    let result = unsafe { libc::statvfs(name.as_ptr(), &mut figures) };
    (result == 0).then(|| figures.f_bavail * figures.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_does_not_exist_yet_counts_as_its_ancestor() {
        let directory = tempfile::tempdir().unwrap();
        assert!(free_bytes(&directory.path().join("a/b")).is_some_and(|free| free > 0));
    }
}
