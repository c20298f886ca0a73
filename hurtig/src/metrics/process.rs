//! Figures of the process: memory, processor time, threads, files. As Flink's dashboards name them
//! (`Status_JVM_...`, although there is no JVM: the heap is the process's resident memory) and as
//! Prometheus' own clients do (`process_...`).

use std::time::Instant;

use metrics::{Gauge, gauge};

/// The unit of processor times that Linux shows to programs, whatever the kernel uses inside.
const TICKS_A_SECOND: f64 = 100.0;
const PAGE_OF_STATUS: u64 = 1024;

/// See the module documentation.
pub(super) struct ProcessFigures {
    resident: [Gauge; 3],
    resident_peak: Gauge,
    heap_max: Gauge,
    cpu_seconds: Gauge,
    cpu_nanos: Gauge,
    cpu_load: Gauge,
    threads: [Gauge; 2],
    files: [Gauge; 2],
    last: Option<(Instant, f64)>,
}

impl ProcessFigures {
    /// Registers them for a `role`: jobmanager or taskmanager.
    pub fn new(role: &str) -> ProcessFigures {
        let flink = |name: &str| gauge!(format!("flink_{role}_Status_JVM_{name}"));
        ProcessFigures {
            resident: [
                gauge!("process_resident_memory_bytes"),
                flink("Memory_Heap_Used"),
                flink("Memory_Heap_Committed"),
            ],
            resident_peak: gauge!("hurtig_process_resident_memory_peak_bytes"),
            heap_max: flink("Memory_Heap_Max"),
            cpu_seconds: gauge!("process_cpu_seconds_total"),
            cpu_nanos: flink("CPU_Time"),
            cpu_load: flink("CPU_Load"),
            threads: [gauge!("process_threads"), flink("Threads_Count")],
            files: [gauge!("process_open_fds"), flink("FileDescriptor_Open")],
            last: None,
        }
    }

    /// Takes the figures. Where the system does not say, they stay as they are.
    pub fn publish(&mut self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(bytes) = kibibytes(&status, "VmRSS:") {
            self.resident.iter().for_each(|gauge| gauge.set(bytes as f64));
        }
        if let Some(bytes) = kibibytes(&status, "VmHWM:") {
            self.resident_peak.set(bytes as f64);
        }
        let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        if let Some(bytes) = kibibytes(&machine, "MemTotal:") {
            self.heap_max.set(bytes as f64);
        }
        if let Some(threads) = field(&status, "Threads:") {
            self.threads.iter().for_each(|gauge| gauge.set(threads as f64));
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            let open = files.count() as f64;
            self.files.iter().for_each(|gauge| gauge.set(open));
        }
        if let Some(seconds) = cpu_seconds(&std::fs::read_to_string("/proc/self/stat").unwrap_or_default()) {
            self.publish_cpu(seconds);
        }
    }

    fn publish_cpu(&mut self, seconds: f64) {
        self.cpu_seconds.set(seconds);
        self.cpu_nanos.set(seconds * 1e9);
        let now = Instant::now();
        if let Some((before, used)) = self.last.replace((now, seconds)) {
            let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
            let elapsed = now.duration_since(before).as_secs_f64();
            if elapsed > 0.0 {
                self.cpu_load.set(((seconds - used) / elapsed / cores).clamp(0.0, 1.0));
            }
        }
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.checked_mul(PAGE_OF_STATUS)
}

/// User and system time of `/proc/self/stat`. The name of the program, in brackets, may contain
/// anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_the_system_says() {
        let status = "Name:\thurtig\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t7\n";
        assert_eq!((kibibytes(status, "VmRSS:"), field(status, "Threads:")), (Some(1 << 20), Some(7)));
        assert_eq!(kibibytes(status, "VmNone:"), None);
        let stat = "12 (a) b) S 1 12 12 0 -1 4194304 500 0 0 0 150 50 0 0 20 0 7 0 100 0 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds(""), None);
    }
}
