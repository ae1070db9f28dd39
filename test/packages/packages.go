// Package packages makes sure that programs which tests call are there: on Debian, and as root, it installs them.
package packages

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/metamorph-k8s/metamorph/test/filelock"
)

// Ensure sees to it that each program is on the PATH, and tells progress if it has to install any. programs names for
// each the Debian package that it is in.
func Ensure(ctx context.Context, progress io.Writer, programs map[string]string) error {
	if len(absent(programs)) == 0 {
		return nil
	}
	aptGet, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return missing(programs, "install what provides them")
	}
	// apt-get refuses to work beside itself.
	unlock, err := filelock.Lock(ctx, filepath.Join(os.TempDir(), "metamorph-packages.lock"), func() {
		fmt.Fprintln(progress, "packages: another process is installing, waiting")
	})
	if err != nil {
		return fmt.Errorf("waiting for another process to install packages: %w", err)
	}
	defer unlock()
	names := wanted(programs)
	if len(names) == 0 {
		return nil
	}
	fmt.Fprintf(progress, "packages: installing %s\n", strings.Join(names, ", "))
	if err := run(ctx, progress, aptGet, "update"); err != nil {
		return err
	}
	install := append([]string{"install", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"}, names...)
	if err := run(ctx, progress, aptGet, install...); err != nil {
		return err
	}
	if len(absent(programs)) > 0 {
		return missing(programs, "they are still not on the PATH after apt-get install")
	}
	return nil
}

func absent(programs map[string]string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(programs)), func(name string) bool {
		_, err := exec.LookPath(name)
		return err == nil
	})
}

// wanted are the packages of the absent programs, each once.
func wanted(programs map[string]string) []string {
	var names []string
	for _, program := range absent(programs) {
		names = append(names, programs[program])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func missing(programs map[string]string, what string) error {
	return fmt.Errorf("the tests need %s; %s (Debian: apt-get install %s)",
		strings.Join(absent(programs), ", "), what, strings.Join(wanted(programs), " "))
}

// run tells which package apt-get has got to, and all that it said if it fails.
func run(ctx context.Context, progress io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return err
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if line := lines.Text(); strings.HasPrefix(line, "Setting up ") || strings.HasPrefix(line, "Fetched ") {
			fmt.Fprintf(progress, "packages: %s\n", line)
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, said.String())
	}
	return nil
}
