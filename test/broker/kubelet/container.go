package kubelet

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// specVariable names the file that says what a container is; this program is started with it as the container's first
// process.
const specVariable = "METAMORPH_CONTAINER"

// spec is all that a container's first process has to know.
type spec struct {
	// Root is where its file system is put together.
	Root     string
	Hostname string
	Mounts   []mount
	ReadOnly bool
	// UID is -1 to stay what it is.
	UID, GID      int
	Groups        []int
	NoNewPrivs    bool
	Command       []string
	Env           []string
	WorkDir       string
	TerminationTo string
}

// mount puts a file or directory of the machine to where the container sees it.
type mount struct {
	From, To string
	ReadOnly bool
}

// machine is what a container has of the machine's file system instead of an image's: programs and libraries, and what
// of /etc they need.
var machine = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf",
	"/etc/ld.so.conf.d", "/etc/ssl", "/etc/java-*", "/etc/pki", "/etc/crypto-policies",
}

var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// Main turns the process into a container if it was started as one, and then does not return.
func Main() {
	file := os.Getenv(specVariable)
	if file == "" {
		return
	}
	err := become(file)
	fmt.Fprintln(os.Stderr, "container:", err)
	os.Exit(125)
}

func become(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var s spec
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	if err := s.fileSystem(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	if err := s.privileges(); err != nil {
		return err
	}
	if err := os.Chdir(s.WorkDir); err != nil {
		return err
	}
	name, err := lookPath(s.Command[0], s.Env)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", name, unix.Exec(name, s.Command, s.Env))
}

// fileSystem puts the container's root together and goes there.
func (s *spec) fileSystem() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", s.Root, "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return err
	}
	for _, dir := range []string{"proc", "dev", "tmp", "etc", "opt", "run", "var", "home"} {
		if err := os.Mkdir(filepath.Join(s.Root, dir), 0o755); err != nil {
			return err
		}
	}
	for _, pattern := range machine {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, name := range found {
			if err := s.take(name); err != nil {
				return err
			}
		}
	}
	if err := unix.Mount("proc", filepath.Join(s.Root, "proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	if err := s.dev(); err != nil {
		return err
	}
	for _, m := range s.Mounts {
		if err := s.bind(m); err != nil {
			return err
		}
	}
	if err := os.Chdir(s.Root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if s.ReadOnly {
		return readOnly("/")
	}
	return nil
}

// take gives the container something of the machine's file system. A symbolic link stays one.
func (s *spec) take(name string) error {
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink == 0 {
		return s.bind(mount{From: name, To: name, ReadOnly: true})
	}
	to, err := os.Readlink(name)
	if err != nil {
		return err
	}
	return os.Symlink(to, filepath.Join(s.Root, name))
}

func (s *spec) dev() error {
	dev := filepath.Join(s.Root, "dev")
	if err := unix.Mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return err
	}
	for _, name := range devices {
		if err := s.bind(mount{From: "/dev/" + name, To: "/dev/" + name}); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	shm := filepath.Join(dev, "shm")
	if err := os.Mkdir(shm, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", shm, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size=64m"); err != nil {
		return err
	}
	return s.bind(mount{From: s.TerminationTo, To: "/dev/termination-log"})
}

func (s *spec) bind(m mount) error {
	to := filepath.Join(s.Root, m.To)
	info, err := os.Stat(m.From)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(to, 0o755)
	} else {
		if err = os.MkdirAll(filepath.Dir(to), 0o755); err == nil {
			var f *os.File
			if f, err = os.OpenFile(to, os.O_CREATE|os.O_RDONLY, 0o644); err == nil {
				err = f.Close()
			}
		}
	}
	if err != nil {
		return fmt.Errorf("a place for %s: %w", m.To, err)
	}
	if err := unix.Mount(m.From, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", m.To, err)
	}
	if m.ReadOnly {
		return readOnly(to)
	}
	return nil
}

// readOnly keeps the other flags: in a user namespace those of the machine's own mounts must not be dropped.
func readOnly(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	flags := uintptr(fs.Flags) & (unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC | unix.ST_NOATIME | unix.ST_NODIRATIME)
	if fs.Flags&unix.ST_RELATIME != 0 {
		flags |= unix.MS_RELATIME
	}
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|flags, ""); err != nil {
		return fmt.Errorf("making %s read-only: %w", dir, err)
	}
	return nil
}

func (s *spec) privileges() error {
	// What follows is a thread's, and the thread's that becomes the container.
	runtime.LockOSThread()
	if s.UID >= 0 {
		if err := unix.Setgroups(s.Groups); err != nil {
			return fmt.Errorf("groups: %w", err)
		}
		if err := unix.Setresgid(s.GID, s.GID, s.GID); err != nil {
			return fmt.Errorf("gid: %w", err)
		}
		if err := unix.Setresuid(s.UID, s.UID, s.UID); err != nil {
			return fmt.Errorf("uid: %w", err)
		}
	}
	if s.NoNewPrivs {
		return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	return nil
}

// lookPath searches the container's PATH.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for i := len(env) - 1; i >= 0; i-- {
		list, ok := strings.CutPrefix(env[i], "PATH=")
		if !ok {
			continue
		}
		for _, dir := range strings.Split(list, ":") {
			if at := path.Join(dir, name); executable(at) {
				return at, nil
			}
		}
		break
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

func executable(name string) bool {
	info, err := os.Stat(name)
	return err == nil && !info.IsDir() && !errors.Is(unix.Access(name, unix.X_OK), unix.EACCES)
}
