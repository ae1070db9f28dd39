package node

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Arguments with which a program that brings up clusters is called by itself; it must call Inside then.
const (
	Init      = "cluster-init"
	supervise = "cluster-supervise"
)

// The files that are passed on, from the third on.
const (
	socketFile = 3 + iota
	reportFile
	tieFile
)

// Inside is what the program does when it is the cluster, and false when it is not.
func Inside(args []string) bool {
	if len(args) != 3 || (args[1] != Init && args[1] != supervise) {
		return false
	}
	p, err := readPlan(args[2])
	if err == nil {
		if args[1] == Init {
			err = initialise(p)
		} else {
			err = p.supervise()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// initialise is the first process of its namespace. It lays out the mounts, starts the one that does the work, and
// collects what others leave behind as children; when it ends, the kernel kills all that is left.
func initialise(p plan) error {
	if err := p.mounts(); err != nil {
		return err
	}
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr, os.NewFile(socketFile, "socket"), os.NewFile(reportFile, "report")}
	if p.Tied {
		files = append(files, os.NewFile(tieFile, "tie"))
	}
	// Before the start, so that no signal is lost.
	ask := make(chan os.Signal, 1)
	signal.Notify(ask, syscall.SIGTERM, syscall.SIGINT)
	worker, err := os.StartProcess("/proc/self/exe", []string{"metamorph-cluster", supervise, p.Dir}, &os.ProcAttr{Env: os.Environ(), Dir: p.Dir, Files: files})
	if err != nil {
		return err
	}
	for _, f := range files[3:] {
		f.Close()
	}
	go func() {
		for range ask {
			_ = worker.Signal(syscall.SIGTERM)
		}
	}()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for children: %w", err)
		case pid == worker.Pid && (status.Exited() || status.Signaled()):
			if status.ExitStatus() != 0 {
				// The logs tell why.
				return fmt.Errorf("the cluster has ended: exit status %d", status.ExitStatus())
			}
			if p.Tied {
				return p.remove()
			}
			return nil
		}
	}
}

// remove leaves nothing behind. Whoever brought the cluster up may be gone, and would be the one to do it otherwise.
func (p plan) remove() error {
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); errors.Is(err, unix.ECHILD) {
			break
		}
	}
	// Nothing is to be removed through a mount, and what is mounted elsewhere is busy.
	for _, dir := range private {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting %s: %w", dir, err)
		}
	}
	for below := true; below; {
		below = false
		raw, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			return err
		}
		lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
		slices.Reverse(lines)
		for _, line := range lines {
			if at := strings.Fields(line)[1]; strings.HasPrefix(at, p.Dir+"/") && unix.Unmount(at, unix.MNT_DETACH) == nil {
				below = true
			}
		}
	}
	restore(p.Sysctl)
	return errors.Join(removeCgroups(p.Cgroup), os.RemoveAll(p.Dir))
}

// private are directories in which kubelet keeps files wherever the rest is; each cluster has
// its own. They have to be there to be mounted over, so a machine without them gets empty ones.
var private = []string{"/var/lib/kubelet", "/var/log/pods", "/var/log/containers"}

func (c *Cluster) privateDirs() []string {
	dirs := append([]string{}, private...)
	for _, dir := range private {
		dirs = append(dirs, filepath.Join(c.Dir, "private", dir))
	}
	return dirs
}

func (p plan) mounts() error {
	type mount struct {
		source, target, kind string
		flags                uintptr
	}
	all := []mount{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE}, // or the machine would see them too
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
	}
	for _, dir := range private {
		all = append(all, mount{filepath.Join(p.Dir, "private", dir), dir, "", unix.MS_BIND})
	}
	for _, m := range all {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	return nil
}
