package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroups is where the control groups are mounted, all of them (version 2) or one folder a controller (version 1).
const cgroups = "/sys/fs/cgroup"

// cgroup is the control group that all pods of the cluster are below.
func (c *Cluster) cgroup() string {
	hash := sha256.Sum256([]byte(c.Dir))
	return "metamorph-" + hex.EncodeToString(hash[:4])
}

// hierarchies are the roots of the machine's control groups.
func hierarchies() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroups, "cgroup.controllers")); err == nil {
		return []string{cgroups}, nil
	}
	entries, err := os.ReadDir(cgroups)
	if err != nil {
		return nil, err
	}
	var roots []string
	for _, e := range entries {
		// Links are other names: cpu for cpu,cpuacct.
		if e.IsDir() {
			roots = append(roots, filepath.Join(cgroups, e.Name()))
		}
	}
	return roots, nil
}

// makeCgroups makes the group in every hierarchy; kubelet wants it to be there.
func makeCgroups(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if strings.HasSuffix(root, "cpuset") {
			// In version 1 a new group may use no processor until it is told which.
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				all, err := os.ReadFile(filepath.Join(root, file))
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(dir, file), all, 0o644); err != nil {
					return err
				}
			}
		}
		if controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers")); err == nil && root == cgroups {
			on := "+" + strings.Join(strings.Fields(string(controllers)), " +")
			if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(on), 0o644); err != nil {
				return fmt.Errorf("switching controllers on in %s: %w", dir, err)
			}
		}
	}
	return nil
}

// removeCgroups removes the group and all below it. Its processes have been killed; the kernel may still be at it.
func removeCgroups(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		err := until(context.Background(), 20*time.Second, func() (bool, error) {
			var dirs []string
			err := filepath.WalkDir(filepath.Join(root, name), func(path string, e fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				if err == nil && e.IsDir() {
					dirs = append(dirs, path)
				}
				return err
			})
			if err != nil {
				return false, err
			}
			slices.Reverse(dirs) // the inner ones first
			gone := true
			for _, dir := range dirs {
				if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
					gone = false
				}
			}
			return gone, nil
		})
		if err != nil {
			return fmt.Errorf("control group %s: %w", filepath.Join(root, name), err)
		}
	}
	return nil
}

// kernelTunables are the settings of the whole machine that kubelet changes when it starts.
var kernelTunables = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

func sysctls() map[string]string {
	values := map[string]string{}
	for _, name := range kernelTunables {
		if raw, err := os.ReadFile("/proc/sys/" + name); err == nil {
			values[name] = strings.TrimSpace(string(raw))
		}
	}
	return values
}

// restore sets back what differs. That a machine does not let it is no reason to leave anything else behind.
func restore(values map[string]string) {
	now := sysctls()
	for name, value := range values {
		if now[name] != value {
			_ = os.WriteFile("/proc/sys/"+name, []byte(value), 0o644)
		}
	}
}

// modules asks for kernel modules that may not be loaded yet. What is built in needs none, so whether it worked shows in
// what comes next.
func modules(ctx context.Context) {
	_ = exec.CommandContext(ctx, "modprobe", "--all", "--quiet", "overlay", "bridge", "br_netfilter", "veth", "nf_conntrack").Run()
}
