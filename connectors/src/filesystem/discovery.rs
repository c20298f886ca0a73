//! Listing the files of a table and cutting large ones. Runs on a thread that may block.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};

use super::FilesystemOptions;
use super::partition;
use super::split::{FileSplit, WHOLE};
use crate::error::{Error, Result};
use crate::formats::Format;

/// Whether there is something at the table's path.
pub fn check_path(options: &FilesystemOptions) -> Result<std::fs::Metadata> {
    let path = &options.path;
    std::fs::metadata(path).map_err(|e| Error::io(format_args!("path '{}' cannot be read", path.display()), &e))
}

/// The splits of the table, in the order of file names. Files and folders whose names begin with
/// `.` or `_` are hidden.
pub fn discover(options: &FilesystemOptions) -> Result<Vec<FileSplit>> {
    // Readers may run in another working directory.
    let root = &std::path::absolute(&options.path)
        .map_err(|e| Error::io(format_args!("path '{}'", options.path.display()), &e))?;
    let metadata = check_path(options)?;
    let mut files = Vec::new();
    if metadata.is_dir() {
        list(root, &mut files)?;
        files.sort_unstable();
    } else {
        files.push((root.clone(), metadata.len()));
    }
    let mut splits = Vec::new();
    for (path, bytes) in files {
        let text = path
            .to_str()
            .ok_or_else(|| Error::Storage(format!("the name of file '{}' is not UTF-8: rename it", path.display())))?;
        let whole = FileSplit {
            number: 0,
            path: text.to_owned(),
            start: 0,
            end: WHOLE,
            file_bytes: bytes,
            partition: partition::of_path(root, &path),
            of: 0,
        };
        for (start, end) in ranges(options, &path, bytes)? {
            splits.push(FileSplit { number: splits.len() as u64, start, end, ..whole.clone() });
        }
    }
    let of = splits.len() as u64;
    splits.iter_mut().for_each(|split| split.of = of);
    Ok(splits)
}

fn list(folder: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    let failed = |e: &std::io::Error| Error::io(format_args!("folder '{}' cannot be listed", folder.display()), e);
    for entry in std::fs::read_dir(folder).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        if entry.file_name().to_string_lossy().starts_with(['.', '_']) {
            continue;
        }
        let metadata = std::fs::metadata(entry.path()).map_err(|e| failed(&e))?;
        if metadata.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push((entry.path(), metadata.len()));
        }
    }
    Ok(())
}

/// Whether the file is compressed as a whole.
pub(super) fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz") || e.eq_ignore_ascii_case("gzip"))
}

/// The pieces that a file is read in.
fn ranges(options: &FilesystemOptions, path: &Path, bytes: u64) -> Result<Vec<(u64, u64)>> {
    if bytes <= options.split_bytes {
        return Ok(vec![(0, WHOLE)]);
    }
    let lines = match &options.format {
        Format::Parquet(_) => return row_groups(options, path),
        Format::Json(_) | Format::Changes(_) => !is_gzip(path),
        // A line break may be part of a quoted field, so only the beginning of the file is sure to
        // be that of a record.
        Format::Csv(csv) => csv.quote.is_none() && csv.escape.is_none() && !is_gzip(path),
    };
    if !lines {
        return Ok(vec![(0, WHOLE)]);
    }
    let pieces = bytes.div_ceil(options.split_bytes);
    let size = bytes.div_ceil(pieces);
    let end = |i: u64| if i + 1 == pieces { WHOLE } else { (i + 1) * size };
    Ok((0..pieces).map(|i| (i * size, end(i))).collect())
}

fn row_groups(options: &FilesystemOptions, path: &Path) -> Result<Vec<(u64, u64)>> {
    let file = File::open(path).map_err(|e| Error::io(format_args!("file '{}'", path.display()), &e))?;
    let reader = SerializedFileReader::new(file)
        .map_err(|e| Error::Data(format!("file '{}' is no parquet file: {e}", path.display())))?;
    let (mut ranges, mut start, mut size) = (Vec::new(), 0, 0);
    let groups = reader.metadata().row_groups();
    for (i, group) in groups.iter().enumerate() {
        size += group.compressed_size().unsigned_abs();
        if size >= options.split_bytes || i + 1 == groups.len() {
            ranges.push((start, i as u64 + 1));
            (start, size) = (i as u64 + 1, 0);
        }
    }
    Ok(ranges)
}
