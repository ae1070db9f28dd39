// Package packages installs the Debian packages that a test needs from the machine.
package packages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// lockFile keeps tests that start at the same time from installing at the same time; apt's own lock fails at once.
const lockFile = "metamorph-packages.lock"

// Ensure installs the packages of those programs that are not there: need maps a program, by name or path, to the Debian
// package that has it. Without root or apt-get, the error names what has to be installed.
func Ensure(ctx context.Context, progress io.Writer, need map[string]string) error {
	if progress == nil {
		progress = io.Discard
	}
	if len(absent(need)) == 0 {
		return nil
	}
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), lockFile), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	programs := absent(need)
	if len(programs) == 0 {
		return nil
	}
	var names []string
	for _, program := range programs {
		names = append(names, need[program])
	}
	slices.Sort(names)
	names = slices.Compact(names)

	by := fmt.Sprintf("%s not found; install what has it (on Debian: apt-get install %s)", strings.Join(programs, ", "), strings.Join(names, " "))
	if os.Geteuid() != 0 {
		return errors.New(by)
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New(by)
	}
	fmt.Fprintf(progress, "packages: installing %s\n", strings.Join(names, ", "))
	// The lists may be missing, as in a fresh image, or old.
	for _, args := range [][]string{
		{"update", "--quiet=2"},
		append([]string{"install", "--quiet=2", "--yes", "--no-install-recommends"}, names...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s\napt-get %s: %w\n%s", by, strings.Join(args, " "), err, out)
		}
	}
	if left := absent(need); len(left) > 0 {
		return fmt.Errorf("%s not found, although %s is installed", strings.Join(left, ", "), strings.Join(names, " "))
	}
	return nil
}

func absent(need map[string]string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(need)), func(program string) bool {
		_, err := exec.LookPath(program)
		return err == nil
	})
}
