//! The file work of a sink.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::Committable;
use super::names::Cleanup;
use super::queue::Worker;
use crate::error::{Error, Result};

/// What files are written as.
pub enum PartFormat {
    /// Bytes come encoded.
    Text,
    /// Rows are encoded here.
    Parquet {
        /// Of the rows.
        schema: SchemaRef,
        /// Of the file.
        compression: Compression,
    },
}

/// What a worker is told to do.
pub enum Order {
    /// Make the table's folder; remove what earlier attempts left.
    Prepare { root: PathBuf, cleanup: Cleanup },
    /// Begin file `part`.
    Open { part: u64, path: PathBuf },
    /// Append bytes to it.
    Bytes { part: u64, bytes: Vec<u8> },
    /// Append rows to it.
    Rows { part: u64, rows: RecordBatch },
    /// End it, durably, under the name `pending`.
    Close { part: u64, pending: PathBuf },
    /// Make files visible, in this order.
    Commit(Vec<(u64, Committable)>),
    /// Remove files that were not ended.
    Abandon,
}

enum Part {
    Text(File, PathBuf),
    Parquet(Box<ArrowWriter<File>>, PathBuf),
}

/// See the module documentation.
pub struct FileWorker {
    staging: PathBuf,
    format: PartFormat,
    parts: BTreeMap<u64, Part>,
    committed: Arc<AtomicU64>,
}

impl FileWorker {
    /// Writes below `staging`; `committed` is set behind the number of each file that was committed.
    pub fn new(staging: PathBuf, format: PartFormat, committed: Arc<AtomicU64>) -> FileWorker {
        FileWorker { staging, format, parts: BTreeMap::new(), committed }
    }

    fn prepare(&self, root: &Path, cleanup: &Cleanup) -> Result<()> {
        fs::create_dir_all(root).map_err(|e| failed("folder", root, "cannot be made", &e))?;
        let entries = match fs::read_dir(&self.staging) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(failed("folder", &self.staging, "cannot be listed", &e)),
        };
        for entry in entries {
            let path = entry.map_err(|e| failed("folder", &self.staging, "cannot be listed", &e))?.path();
            if path.file_name().and_then(|n| n.to_str()).is_some_and(|n| cleanup.is_garbage(n)) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, part: u64, path: PathBuf) -> Result<()> {
        // Another subtask that ends removes the folder when it finds it empty.
        let mut tries = 0;
        let file = loop {
            fs::create_dir_all(&self.staging).map_err(|e| failed("folder", &self.staging, "cannot be made", &e))?;
            match File::create_new(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && tries < 100 => tries += 1,
                other => break other.map_err(|e| failed("file", &path, "cannot be made", &e))?,
            }
        };
        let opened = match &self.format {
            PartFormat::Text => Part::Text(file, path),
            PartFormat::Parquet { schema, compression } => {
                let properties = WriterProperties::builder().set_compression(*compression).build();
                let writer = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties))
                    .map_err(|e| Error::Data(format!("file '{}': {e}", path.display())))?;
                Part::Parquet(Box::new(writer), path)
            }
        };
        self.parts.insert(part, opened);
        Ok(())
    }

    fn part(&mut self, part: u64) -> Result<&mut Part> {
        self.parts.get_mut(&part).ok_or_else(|| Error::Internal(format!("file {part} of the sink is not open")))
    }

    fn bytes(&mut self, part: u64, bytes: &[u8]) -> Result<()> {
        match self.part(part)? {
            Part::Text(file, path) => file.write_all(bytes).map_err(|e| failed("file", path, "cannot be written", &e)),
            Part::Parquet(..) => Err(Error::Internal("bytes for a parquet file".into())),
        }
    }

    fn rows(&mut self, part: u64, rows: &RecordBatch) -> Result<()> {
        match self.part(part)? {
            Part::Parquet(writer, path) => {
                writer.write(rows).map_err(|e| Error::Data(format!("file '{}': {e}", path.display())))
            }
            Part::Text(..) => Err(Error::Internal("rows for a text file".into())),
        }
    }

    fn close(&mut self, part: u64, pending: &Path) -> Result<()> {
        self.part(part)?;
        let (file, path) = match self.parts.remove(&part) {
            Some(Part::Text(file, path)) => (file, path),
            Some(Part::Parquet(writer, path)) => {
                let file = writer.into_inner().map_err(|e| Error::Data(format!("file '{}': {e}", path.display())))?;
                (file, path)
            }
            None => return Ok(()),
        };
        file.sync_all().map_err(|e| failed("file", &path, "cannot be synced", &e))?;
        fs::rename(&path, pending).map_err(|e| failed("file", &path, "cannot be renamed", &e))?;
        sync_folder(&self.staging)
    }

    fn commit(&self, files: &[(u64, Committable)]) -> Result<()> {
        let mut folders: Vec<PathBuf> = Vec::new();
        for (_, file) in files {
            let (from, to) = (Path::new(&file.pending), Path::new(&file.target));
            let folder = to.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder).map_err(|e| failed("folder", folder, "cannot be made", &e))?;
            match fs::rename(from, to) {
                Ok(()) => {}
                // Committed before: this is a restart behind that commit. Whoever reads the files may
                // have moved them since.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    if !to.exists() {
                        tracing::warn!(file = %to.display(), "a file was to be committed but is neither pending nor \
                            visible: it was moved or removed by someone else");
                    }
                }
                Err(e) => return Err(failed("file", to, "cannot be committed", &e)),
            }
            if !folders.iter().any(|f| f == folder) {
                folders.push(folder.to_owned());
            }
        }
        folders.iter().try_for_each(|folder| sync_folder(folder))?;
        if let Some((number, _)) = files.last() {
            self.committed.store(number + 1, Ordering::Release);
        }
        Ok(())
    }

    fn abandon(&mut self) {
        for part in std::mem::take(&mut self.parts).into_values() {
            let (Part::Text(_, path) | Part::Parquet(_, path)) = part;
            let _ = remove(&path);
        }
        // Fails while files of anyone are in it.
        let _ = fs::remove_dir(&self.staging);
    }
}

impl Worker for FileWorker {
    type Order = Order;

    fn carry_out(&mut self, order: Order) -> Result<()> {
        match order {
            Order::Prepare { root, cleanup } => self.prepare(&root, &cleanup),
            Order::Open { part, path } => self.open(part, path),
            Order::Bytes { part, bytes } => self.bytes(part, &bytes),
            Order::Rows { part, rows } => self.rows(part, &rows),
            Order::Close { part, pending } => self.close(part, &pending),
            Order::Commit(files) => self.commit(&files),
            Order::Abandon => {
                self.abandon();
                Ok(())
            }
        }
    }
}

fn failed(what: &str, path: &Path, how: &str, error: &std::io::Error) -> Error {
    Error::io(format_args!("{what} '{}' {how}", path.display()), error)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("file", path, "cannot be removed", &e)),
        _ => Ok(()),
    }
}

/// Makes names in a folder durable.
fn sync_folder(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|f| f.sync_all());
    match synced {
        // The folder was empty and someone removed it: so are the names.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|e| failed("folder", folder, "cannot be synced", &e)),
    }
}
