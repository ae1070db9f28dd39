// Package sandbox runs a program in namespaces of its own, so that whatever it starts, mounts or connects is out of the
// machine's way and gone with it, however it ends.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inside tells the program that it is in the sandbox already, and what users there are.
const (
	inside   = "METAMORPH_SANDBOX"
	allUsers = "all-users"
	oneUser  = "one-user"
)

// Inside tells whether this program runs in a sandbox.
func Inside() bool { return os.Getenv(inside) != "" }

// OneUser tells that the sandbox has no other user than its root, because whoever started it was not root.
func OneUser() bool { return os.Getenv(inside) == oneUser }

// Run runs this program again, in new namespaces of processes, mounts and networks, and returns its exit code. Whoever is
// not root needs one of users, too.
func Run() (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...) //nolint:noctx // it ends with this process
	cmd.Env = append(os.Environ(), inside+"="+allUsers)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		// The kernel ends the namespace's first process with this one, and with it all that is in the namespace.
		Pdeathsig: syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		cmd.Env = append(os.Environ(), inside+"="+oneUser)
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	// That signal comes when the thread ends that started the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("the tests run in namespaces of their own, and the kernel makes none (%w): they need root, or "+
			"user namespaces for everybody (sysctl user.max_user_namespaces above 0, kernel.unprivileged_userns_clone=1, "+
			"kernel.apparmor_restrict_unprivileged_userns=0, as far as this kernel has them)", err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code, nil
	}
	return 1, nil
}

// Enter sets the sandbox up from its inside, and returns an empty directory that is gone with it. Of what is in keep
// nothing is covered.
func Enter(keep ...string) (string, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return "", fmt.Errorf("mounting /proc: %w", err)
	}
	scratch, err := coverable(keep)
	if err != nil {
		return "", err
	}
	if err := unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return "", fmt.Errorf("mounting a file system on %s: %w", scratch, err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return "", err
	}
	return scratch, netlink.LinkSetUp(lo)
}

// coverable finds a directory that every Linux has and nobody here needs.
func coverable(keep []string) (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	keep = append(keep, wd)
candidates:
	for _, dir := range []string{"/mnt", "/media", "/srv"} {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		for _, path := range keep {
			if strings.HasPrefix(filepath.Clean(path)+"/", dir+"/") {
				continue candidates
			}
		}
		return dir, nil
	}
	return "", errors.New("of /mnt, /media and /srv none is there and unused; one of them is needed to mount a file system on")
}
