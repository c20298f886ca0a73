"""Real Flink: sets it up in a cache folder, and runs a query on it in fresh processes.

One JobManager that runs the application and one TaskManager, with the JVM flags that Flink's own scripts
would give them.
"""

import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import urllib.request

import process

VERSION = "2.3.0"
ARCHIVE = f"apache_flink_libraries-{VERSION}.tar.gz"
SHA256 = "570bf8831d3c1336311e924e97119e52d8842e5485a4a7709ff9a92db709b006"
HERE = pathlib.Path(__file__).resolve().parent
JAVA_SOURCES = HERE.parent / "flink"

# What Flink's own configuration file gives every JVM for Java 17.
MODULES = [
    "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
    "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
    *(f"--add-exports=jdk.compiler/com.sun.tools.javac.{p}=ALL-UNNAMED" for p in ("api", "file", "parser", "tree", "util")),
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    *(
        f"--add-opens=java.base/{p}=ALL-UNNAMED"
        for p in (
            "java.lang java.net java.io java.nio sun.nio.ch java.lang.reflect java.text java.time java.util "
            "java.util.concurrent java.util.concurrent.atomic java.util.concurrent.locks"
        ).split()
    ),
]

LOGGING = """rootLogger.level = WARN
rootLogger.appenderRef.file.ref = File
appender.file.name = File
appender.file.type = FILE
appender.file.fileName = ${sys:log.file}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %-5p %c - %m%n
"""


def cache():
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "hurtig" / "flink"


def java(name="java"):
    home = os.environ.get("JAVA_HOME")
    return str(pathlib.Path(home) / "bin" / name) if home else name


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_java():
    for name in ("java", "javac"):
        try:
            subprocess.run([java(name), "-version"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"bench: '{java(name)}' does not run ({error}): install a JDK 17 or set JAVA_HOME") from None


def set_up():
    """Downloads and unpacks Flink and compiles our program for it, unless all that is there. Gives the
    folder of Flink and the jar of the program."""
    check_java()
    folder = cache() / VERSION
    home = folder / "deps"
    if not (home / "lib").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder / ARCHIVE
        if not archive.exists():
            download(folder)
        if (found := sha256(archive)) != SHA256:
            raise SystemExit(f"bench: {archive} has sha256 {found}, expected {SHA256}: delete it and try again")
        print(f"bench: unpacking Flink {VERSION}", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=folder) as unpacked:
            with tarfile.open(archive) as tar:
                tar.extractall(unpacked, filter="data")
            (pathlib.Path(unpacked) / ARCHIVE.removesuffix(".tar.gz") / "deps").rename(home)
        archive.unlink()
    return home, compile_program(folder, home)


def download(folder):
    print(f"bench: downloading Flink {VERSION} (330 MB) into {folder}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder) as target:
        requirements = pathlib.Path(target) / "requirements.txt"
        requirements.write_text(f"apache-flink-libraries=={VERSION} --hash=sha256:{SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary"]
        command += ["apache-flink-libraries", "--dest", target, "--require-hashes", "-r", str(requirements)]
        if subprocess.run(command).returncode != 0:
            raise SystemExit("bench: pip could not download apache-flink-libraries: see its message above")
        (pathlib.Path(target) / ARCHIVE).rename(folder / ARCHIVE)


def compile_program(folder, home):
    sources = sorted((JAVA_SOURCES / "src").rglob("*.java"))
    resources = sorted(p for p in (JAVA_SOURCES / "resources").rglob("*") if p.is_file())
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sources + resources)).hexdigest()[:16]
    classes = folder / f"classes-{digest}"
    if not classes.is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as target:
            out = pathlib.Path(target) / "classes"
            command = [java("javac"), "--release", "17", "-d", str(out), "-cp", f"{home}/lib/*", *map(str, sources)]
            compiled = subprocess.run(command, capture_output=True, text=True)
            if compiled.returncode != 0:
                raise SystemExit(f"bench: javac failed:\n{compiled.stderr}")
            shutil.copytree(JAVA_SOURCES / "resources", out, dirs_exist_ok=True)
            out.rename(classes)
    return classes


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Flink:
    """Runs queries on Flink."""

    name = "flink"

    def __init__(self, taskmanager_memory="4g", jobmanager_memory="1g"):
        self.home, self.classes = set_up()
        self.taskmanager_memory = taskmanager_memory
        self.jobmanager_memory = jobmanager_memory

    def describe(self):
        version = subprocess.run([java(), "-version"], capture_output=True, text=True).stderr.splitlines()
        return f"Flink {VERSION}, {version[1].strip() if len(version) > 1 else 'Java'}"

    def classpath(self):
        return f"{self.classes}:{self.home}/lib/*"

    def print_events(self, events, rate, out):
        command = [java(), "-cp", self.classpath(), "hurtig.bench.PrintEvents", str(events), str(rate)]
        subprocess.run(command, stdout=out, check=True)

    def jvm_parameters(self, role, configuration):
        """JVM flags and program arguments, worked out by the class that Flink's scripts ask."""
        command = [java(), "-cp", f"{self.home}/bin/bash-java-utils.jar:{self.home}/lib/flink-dist-{VERSION}.jar"]
        command += ["org.apache.flink.runtime.util.bash.BashJavaUtils", f"GET_{role}_RESOURCE_PARAMS"]
        command += ["--configDir", str(configuration)]
        asked = subprocess.run(command, capture_output=True, text=True)
        mark = "BASH_JAVA_UTILS_EXEC_RESULT:"
        found = [line.removeprefix(mark).split() for line in asked.stdout.splitlines() if line.startswith(mark)]
        if len(found) != 2:
            raise RuntimeError(f"Flink refuses the memory configuration:\n{asked.stdout}{asked.stderr}")
        return found

    def run(self, run, folder):
        """One run in fresh processes; `folder` is empty and for this run alone."""
        rest, rpc = free_port(), free_port()
        settings = dict(run.settings)
        settings |= {
            "parallelism.default": run.parallelism,
            "taskmanager.numberOfTaskSlots": run.parallelism,
            "taskmanager.memory.process.size": self.taskmanager_memory,
            "jobmanager.memory.process.size": self.jobmanager_memory,
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.bind-host": "127.0.0.1",
            "jobmanager.rpc.port": rpc,
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": rest,
            "rest.bind-port": rest,
            "io.tmp.dirs": folder / "tmp",
            "execution.checkpointing.dir": f"file://{folder}/checkpoints",
            "execution.checkpointing.interval": f"{run.interval_ms} ms",
            # All checkpoints stay in what REST tells; the application's end does not end the JobManager before it is asked.
            "web.checkpoints.history": 100000,
            "execution.shutdown-on-application-finish": "false",
            # How often the program that waits asks whether the job has ended.
            "client.retry-period": "20 ms",
        }
        configuration = folder / "conf"
        configuration.mkdir()
        (folder / "tmp").mkdir()
        (configuration / "config.yaml").write_text("".join(f"{k}: {v}\n" for k, v in settings.items()))
        (configuration / "log4j.properties").write_text(LOGGING)
        script = folder / "script.sql"
        script.write_text(run.statements)
        with process.Group() as group:
            started = group.clock()
            main = ["org.apache.flink.container.entrypoint.StandaloneApplicationClusterEntryPoint"]
            main += ["--configDir", str(configuration), "--job-classname", "hurtig.bench.RunQuery"]
            manager = group.start(self.jvm("JM", configuration, folder, "jobmanager", main, [str(script), str(rest), str(run.parallelism)]))
            main = ["org.apache.flink.runtime.taskexecutor.TaskManagerRunner", "--configDir", str(configuration)]
            group.start(self.jvm("TM", configuration, folder, "taskmanager", main, []))
            try:
                begin = manager.wait_for("started", run.timeout)
                cpu = group.cpu_seconds()
                end = manager.wait_for("finished", run.timeout)
                cpu = group.cpu_seconds() - cpu
            except process.Ended as error:
                logs = "".join(p.read_text()[-3000:] for p in sorted(folder.glob("*.log")))
                raise RuntimeError(f"Flink did not finish {run.query}: {error}\n{logs}") from None
            _, job, seconds = end.line.split()
            checkpoints = self.ask(rest, f"/jobs/{job}/checkpoints")
            job_status = self.ask(rest, f"/jobs/{job}")
            usage = group.kill()
        probe = json.loads((folder / "probe.json").read_text())
        if job_status["state"] != "FINISHED":
            raise RuntimeError(f"Flink's job of {run.query} is {job_status['state']}")
        return {
            "seconds": float(seconds),
            "wall_seconds": end.time - begin.time,
            "process_seconds": end.time - started,
            "rest_seconds": job_status["duration"] / 1000,
            "second_half_seconds": probe["second_half_seconds"],
            "cpu_seconds": usage.cpu_seconds,
            "cpu_job_seconds": cpu,
            "memory_bytes": usage.memory_bytes,
            "memory_by_process": usage.by_process,
            "checkpoints": checkpoints["counts"]["completed"],
            "checkpoint_bytes": sum(c["checkpointed_size"] for c in checkpoints["history"] if c["status"] == "COMPLETED"),
            "rows_out": probe["rows_out"],
            "net_rows": probe["net_rows"],
            "checksum": probe["checksum"],
        }

    def jvm(self, role, configuration, folder, name, main, arguments):
        flags, dynamic = self.jvm_parameters(role, configuration)
        return [
            java(),
            "-XX:+UseG1GC",
            *flags,
            *MODULES,
            f"-Dlog.file={folder}/{name}.log",
            f"-Dlog4j.configurationFile={configuration}/log4j.properties",
            f"-Dhurtig.bench.probe={folder}/probe.json",
            "-cp",
            self.classpath(),
            *main,
            *dynamic,
            *arguments,
        ]

    @staticmethod
    def ask(port, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return json.load(answer)


if __name__ == "__main__":
    flink_home, program = set_up()
    print(f"Flink {VERSION} is in {flink_home}, the program for it in {program}")
