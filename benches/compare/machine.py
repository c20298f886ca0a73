"""What is measured on, and how fast its processor is, so that figures of two machines can be compared."""

import os
import platform
import time


def describe():
    model = memory = ""
    with open("/proc/cpuinfo") as cpus:
        for line in cpus:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    with open("/proc/meminfo") as info:
        memory = f"{int(info.readline().split()[1]) / 1048576:.0f} GB"
    return {
        "processor": model or platform.machine(),
        "cores": os.cpu_count(),
        "memory": memory,
        "system": f"{platform.system()} {platform.release()}",
        "load_before": os.getloadavg()[0],
        "calibration_seconds": round(calibrate(), 3),
    }


def calibrate():
    """Seconds for a fixed piece of arithmetic on one core, the best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        x = 1
        for _ in range(3_000_000):
            x = (x * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        best = min(best, time.perf_counter() - start)
    return best
