"""Processes that are measured from outside: when they print a line, their processor time and peak memory."""

import collections
import os
import queue
import signal
import subprocess
import threading
import time

Line = collections.namedtuple("Line", "time line")
Usage = collections.namedtuple("Usage", "cpu_seconds memory_bytes by_process")
TICKS = os.sysconf("SC_CLK_TCK")


class Ended(Exception):
    """A process ended, or the time was up, before it printed what was expected."""


class Process:
    def __init__(self, command, environment):
        self.popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment
        )
        self.command = command
        self.output = []
        self.errors = collections.deque(maxlen=200)
        self.marks = queue.Queue()
        self.readers = [
            threading.Thread(target=self.read, args=(stream, keep), daemon=True)
            for stream, keep in ((self.popen.stdout, self.output), (self.popen.stderr, self.errors))
        ]
        for reader in self.readers:
            reader.start()

    def read(self, stream, keep):
        for line in stream:
            self.marks.put(Line(time.monotonic(), line.strip()))
            keep.append(line)
        self.marks.put(None)

    def wait_for(self, word, timeout):
        """The next line, of either stream, that begins with this word."""
        deadline = time.monotonic() + timeout
        closed = 0
        while True:
            try:
                line = self.marks.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                raise Ended(f"no '{word}' within {timeout} s") from None
            if line is None:
                closed += 1
                if closed == 2:
                    raise Ended(f"ended before it said '{word}':\n{''.join(self.errors)}")
            elif line.line.split(" ")[0] == word:
                return line

    def close(self):
        """What has ended: the rest of its output, and the pipes."""
        for reader in self.readers:
            reader.join()
        self.popen.stdout.close()
        self.popen.stderr.close()

    def cpu_seconds(self):
        with open(f"/proc/{self.popen.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak_memory(self):
        with open(f"/proc/{self.popen.pid}/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return 0


class Group:
    """The processes of one run. Whatever happens, none is left over."""

    def __init__(self, environment=None):
        self.processes = []
        self.environment = environment

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.popen.returncode is None:
                process.popen.kill()
                process.popen.wait()
                process.close()

    @staticmethod
    def clock():
        return time.monotonic()

    def start(self, command):
        process = Process(command, self.environment)
        self.processes.append(process)
        return process

    def cpu_seconds(self):
        return sum(p.cpu_seconds() for p in self.processes)

    def kill(self):
        """Ends all processes at once and gives what they have used."""
        peaks = [p.peak_memory() for p in self.processes]
        for process in self.processes:
            process.popen.send_signal(signal.SIGKILL)
        return self.reap(peaks)

    def wait(self):
        """Waits until all processes have ended by themselves and gives what they have used."""
        return self.reap(None)

    def reap(self, by_process):
        cpu, peaks = 0.0, []
        for process in self.processes:
            _, status, usage = os.wait4(process.popen.pid, 0)
            process.popen.returncode = os.waitstatus_to_exitcode(status)
            process.close()
            cpu += usage.ru_utime + usage.ru_stime
            # The kernel's high-water mark of resident memory, the VmHWM of /proc.
            peaks.append(usage.ru_maxrss * 1024)
        peaks = by_process or peaks
        return Usage(cpu, sum(peaks), peaks)
