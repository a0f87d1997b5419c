"""A Slurm of one node on the loopback, started and stopped by the tests."""

import os
import shutil
import subprocess
import time

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue")
CONF = """
ClusterName=meanfield
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""
DASK = """
jobqueue:
  slurm:
    queue: {queue}
    walltime: "00:30:00"
    interface: lo
    local-directory: {folder}/scratch
    log-directory: {folder}/logs
"""


def missing():
    """Return why there can be no Slurm here, or nothing."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        return f"needs Debian's slurmctld, slurmd, slurm-client and munge: no {', '.join(absent)}"
    return "" if os.geteuid() == 0 else "slurmd needs root"


class Slurm:
    """The daemons, and the environment in which commands meet them."""

    def __init__(self, folder):
        self.folder = folder
        # munged wants that all can reach its socket.
        folder.chmod(0o755)
        for name in ("state", "spool", "scratch", "logs"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        (folder / "slurm.conf").write_text(CONF.format(folder=folder))
        self.env = {"SLURM_CONF": f"{folder}/slurm.conf", "DASK_CONFIG": str(folder / "dask")}
        self.configure("main")
        self.daemons = []

    def start(self):
        """Start the daemons, and wait until there is a node."""
        folder = self.folder
        files = [f"--{kind}-file={folder}/munge.{kind}" for kind in ("key", "pid", "log", "seed")]
        self._run("munged", "--foreground", f"--socket={folder}/munge.socket", *files)
        self._run("slurmctld", "-D", "-i")
        self._run("slurmd", "-D", "-N", "localhost")
        deadline = time.time() + 60
        while "idle" not in self.ask("sinfo", "--noheader", "--format=%t"):
            assert time.time() < deadline, (folder / "slurmctld.out").read_text()
            time.sleep(0.2)

    def _run(self, name, *options):
        with (self.folder / f"{name}.out").open("w") as out:
            environment = {**os.environ, **self.env}
            self.daemons.append(
                subprocess.Popen(
                    [name, *options], env=environment, stdout=out, stderr=subprocess.STDOUT
                )
            )

    def configure(self, queue):
        """Write dask's configuration: jobs go into a partition."""
        (self.folder / "dask").mkdir(exist_ok=True)
        text = DASK.format(folder=self.folder, queue=queue)
        (self.folder / "dask" / "jobqueue.yaml").write_text(text)

    def ask(self, *command):
        """Return what a command of Slurm says."""
        told = subprocess.run(
            command, env={**os.environ, **self.env}, capture_output=True, text=True, check=False
        )
        return told.stdout

    def jobs(self):
        """Return the numbers of the jobs that run or wait."""
        return self.ask("squeue", "--noheader", "--format=%i").split()

    def wait_until_empty(self):
        """Wait until there are no jobs."""
        deadline = time.time() + 60
        while self.jobs() and time.time() < deadline:
            time.sleep(0.2)
        assert not self.jobs()

    def stop(self):
        """End all jobs and all daemons."""
        for job in self.jobs():
            self.ask("scancel", job)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
