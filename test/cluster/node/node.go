// Package node brings up a one-node Kubernetes cluster on a bare Linux machine, without Docker, and takes it down again:
// etcd, the control plane, containerd, kubelet, kube-proxy, CoreDNS, and a provisioner of local volumes.
//
// All of it runs in namespaces of its own for processes, mounts and the network, below one process. So nothing clashes with
// what else the machine does, and when that process ends, however it does, the kernel ends the rest: containers, mounts,
// interfaces, packet filters. The API server is reached over a loopback port; there is no other way in, and none out.
// What the machine keeps for a while are control groups and a directory; Down removes them, and so does the next Up.
package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/metamorph-k8s/metamorph/test/apiserver"
	"github.com/metamorph-k8s/metamorph/test/packages"
)

const (
	// upTimeout is generous: on a busy machine the API server alone can take a minute.
	upTimeout   = 4 * time.Minute
	downTimeout = time.Minute
	poll        = 50 * time.Millisecond
)

// programs are what Debian has of a node, by the package that has it.
var programs = map[string]string{
	"containerd":           "containerd",
	"ctr":                  "containerd",
	"runc":                 "runc",
	"iptables":             "iptables",
	cniPlugins + "/bridge": "containernetworking-plugins",
}

// cniPlugins is where Debian has them.
const cniPlugins = "/usr/lib/cni"

// Cluster is where a cluster's files are. There need not be one yet.
type Cluster struct {
	// Dir holds everything of the cluster. It is removed when the cluster is.
	Dir string
	// Progress is told what is being done.
	Progress io.Writer
	// Tied says that the cluster ends with the process that brings it up, even if that is killed.
	Tied bool

	tie *os.File // ends the cluster when the last process that has it closes it
}

// Kubeconfig is the path of the cluster administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.Dir, "kubeconfig") }

// Logs is the directory of the components' logs.
func (c *Cluster) Logs() string { return filepath.Join(c.Dir, "logs") }

func (c *Cluster) containerd() string { return filepath.Join(c.Dir, "containerd.sock") }

func (c *Cluster) tell(format string, args ...any) {
	if c.Progress != nil {
		fmt.Fprintf(c.Progress, "cluster: "+format+"\n", args...)
	}
}

// Up brings the cluster up, unless it is, and waits until its node is ready.
func (c *Cluster) Up(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("a cluster on this machine needs root, for namespaces, mounts and control groups; " +
			"without it, let METAMORPH_E2E_KUBECONFIG name a cluster for tests, for instance one of kind")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	c.Dir = dir
	if strings.HasPrefix(dir, "/run/") || strings.HasPrefix(dir, "/proc/") || strings.HasPrefix(dir, "/sys/") {
		return fmt.Errorf("%s: the cluster has a %s of its own, so its files cannot be below it", dir, strings.Split(dir, "/")[1])
	}
	if err := packages.Ensure(ctx, c.Progress, programs); err != nil {
		return err
	}
	binaries, err := apiserver.Binaries(ctx, c.Progress, append(append([]string{}, apiserver.ControlPlane...), apiserver.Node...)...)
	if err != nil {
		return err
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if r, err := c.running(); err != nil {
		return err
	} else if r != nil {
		c.tell("is up (process %d)", r.PID)
		return nil
	}
	if err := c.remove(); err != nil {
		return fmt.Errorf("removing what an earlier cluster left: %w", err)
	}
	began := time.Now()
	if err := c.start(ctx, binaries); err != nil {
		return err
	}
	c.tell("up in %s", time.Since(began).Round(100*time.Millisecond))
	return nil
}

// Down takes the cluster down and removes its files. It is no error if there is none.
func (c *Cluster) Down(ctx context.Context) error {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	c.Dir = dir
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		c.tell("there is none")
		return nil
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if c.tie != nil {
		c.tie.Close()
		c.tie = nil
	}
	r, err := c.running()
	if err != nil {
		return err
	}
	if r != nil {
		c.tell("ending process %d and all below it", r.PID)
		if err := r.end(ctx); err != nil {
			return err
		}
	}
	if err := c.remove(); err != nil {
		return err
	}
	c.tell("down")
	return os.RemoveAll(c.Dir)
}

// Load gives images to the node: files as docker save writes them.
func (c *Cluster) Load(ctx context.Context, paths ...string) error {
	for _, path := range paths {
		c.tell("loading %s", filepath.Base(path))
		cmd := exec.CommandContext(ctx, "ctr", "--address", c.containerd(), "--namespace", "k8s.io", "images", "import", path)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("loading %s: %w\n%s", path, err, out)
		}
	}
	return nil
}

// lock keeps two commands from working on one cluster at the same time.
func (c *Cluster) lock() (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(c.Dir), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(c.Dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another process is bringing the cluster in %s up or down: %w", c.Dir, err)
	}
	return func() { f.Close() }, nil
}

// record says which process a cluster is, and what has to be undone when it is gone.
type record struct {
	PID     int               `json:"pid"`
	Started string            `json:"started"` // with the id, it names one process of one boot
	Boot    string            `json:"boot"`
	Sysctl  map[string]string `json:"sysctl"` // what kubelet changes for the whole machine, as it was before
}

func (c *Cluster) recordFile() string { return filepath.Join(c.Dir, "process.json") }

func (c *Cluster) read() (*record, error) {
	raw, err := os.ReadFile(c.recordFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is no cluster
	}
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("%s: %w", c.recordFile(), err)
	}
	return r, nil
}

// running returns the cluster's process, if it lives.
func (c *Cluster) running() (*record, error) {
	r, err := c.read()
	if r == nil || err != nil || !r.alive() {
		return nil, err
	}
	return r, nil
}

func (r *record) alive() bool { return r.Boot == boot() && r.Started == started(r.PID) }

// end asks the process to end, and kills it if it does not. It is the first of its namespace of processes, so the kernel
// kills what is left in there.
func (r *record) end(ctx context.Context) error {
	process, err := os.FindProcess(r.PID)
	if err != nil {
		return err
	}
	for _, how := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if !r.alive() {
			return nil
		}
		if err := process.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		if err := until(ctx, downTimeout, func() (bool, error) { return !r.alive(), nil }); err == nil {
			return nil
		} else if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("process %d does not end", r.PID)
}

// boot is the id of the machine's current run.
func boot() string {
	raw, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw))
}

// started is when a process began, in the kernel's units; empty if it has ended.
func started(pid int) string {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// The second field is the name, which may hold anything.
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	const state, startTime = 0, 19
	if len(fields) <= startTime || fields[state] == "Z" {
		return ""
	}
	return fields[startTime]
}

// remove removes what a cluster left that has ended.
func (c *Cluster) remove() error {
	if r, err := c.read(); err != nil {
		return err
	} else if r != nil {
		restore(r.Sysctl)
	}
	if err := removeCgroups(c.cgroup()); err != nil {
		return err
	}
	entries, err := os.ReadDir(c.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(c.Dir, e.Name())))
	}
	return err
}

// start starts the process that everything else runs below, and tells of what it reports until the cluster is ready.
func (c *Cluster) start(ctx context.Context, binaries map[string]string) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, upTimeout, fmt.Errorf("not ready within %s", upTimeout))
	defer cancel()
	for _, dir := range append([]string{c.Dir, c.Logs()}, c.privateDirs()...) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// Opened out here, it is reachable from out here, whoever accepts its connections.
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer socket.Close()
	plan := plan{
		Dir: c.Dir, Binaries: binaries, Port: listener.Addr().(*net.TCPAddr).Port, Cgroup: c.cgroup(), Tied: c.Tied, Sysctl: sysctls(),
	}
	if err := plan.write(c.Kubeconfig()); err != nil {
		return err
	}
	if err := makeCgroups(plan.Cgroup); err != nil {
		return err
	}
	modules(ctx)

	reports, report, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reports.Close()
	defer report.Close()
	tied, tie, err := os.Pipe()
	if err != nil {
		return err
	}
	defer tied.Close()
	log, err := os.Create(filepath.Join(c.Logs(), "init.log"))
	if err != nil {
		return err
	}
	defer log.Close()

	cmd := exec.Command("/proc/self/exe", Init, c.Dir) //nolint:noctx // it outlives this
	cmd.Args[0] = "metamorph-cluster"
	cmd.Dir = c.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.Dir}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{socket, report}
	if c.Tied {
		cmd.ExtraFiles = append(cmd.ExtraFiles, tied)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting a process in namespaces of its own: %w", err)
	}
	report.Close()
	r := &record{PID: cmd.Process.Pid, Started: started(cmd.Process.Pid), Boot: boot(), Sysctl: plan.Sysctl}
	go func() { _ = cmd.Wait() }() // so that it is no zombie when Down waits for its end
	defer func() {
		if err != nil {
			err = errors.Join(err, r.end(context.WithoutCancel(ctx)))
			tie.Close()
		}
	}()
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.recordFile(), raw, 0o600); err != nil {
		return err
	}
	if c.Tied {
		c.tie = tie
	} else {
		tie.Close()
	}
	return c.follow(ctx, reports)
}

// follow tells of each step that is reported, until the last.
func (c *Cluster) follow(ctx context.Context, reports *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = reports.SetReadDeadline(time.Now()) })
	defer stop()
	step := "starting"
	for lines := json.NewDecoder(reports); ; {
		var said report
		err := lines.Decode(&said)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w (logs: %s)", step, context.Cause(ctx), c.Logs())
		case err != nil:
			raw, _ := os.ReadFile(filepath.Join(c.Logs(), "init.log"))
			return fmt.Errorf("%s: the cluster's process has ended: %w\n%s", step, err, tail(raw))
		case said.Error != "":
			return fmt.Errorf("%s: %s", step, said.Error)
		case said.Ready:
			return nil
		}
		step = said.Step
		c.tell("%s", step)
	}
}

// report is what the process inside says of its work, a line of JSON each.
type report struct {
	Step  string `json:"step,omitempty"`
	Error string `json:"error,omitempty"`
	Ready bool   `json:"ready,omitempty"`
}

// until asks until the answer is yes, an error, or too late.
func until(ctx context.Context, limit time.Duration, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %s", limit))
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if yes, err := ask(); yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func tail(log []byte) string {
	const last = 15
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return strings.Join(lines[max(0, len(lines)-last):], "\n")
}
