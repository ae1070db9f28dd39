//go:build e2e

package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// owner makes the test's program a process that brings a cluster up and then does nothing.
const owner = "METAMORPH_TEST_CLUSTER"

func TestMain(m *testing.M) {
	if Inside(os.Args) {
		return
	}
	if dir := os.Getenv(owner); dir != "" {
		c := &Cluster{Dir: dir, Progress: os.Stderr, Tied: true}
		if err := c.Up(context.Background()); err != nil {
			panic(err)
		}
		fmt.Println("up")
		select {}
	}
	os.Exit(m.Run())
}

func TestAClusterWhoseOwnerIsKilledLeavesNothing(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir, whose removal would hide what is left.
	parent, err := os.MkdirTemp("", "metamorph-node-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(parent)
	c := &Cluster{Dir: filepath.Join(parent, "cluster")}
	before := sysctls()

	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env, cmd.Stderr = append(os.Environ(), owner+"="+c.Dir), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if lines := bufio.NewScanner(out); !lines.Scan() || lines.Text() != "up" {
		t.Fatalf("no cluster: %v", cmd.Wait())
	}
	r, err := c.running()
	if err != nil || r == nil {
		t.Fatalf("running: %v, %v", r, err)
	}
	roots, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(roots[0], c.cgroup())); err != nil {
		t.Errorf("the control group that has to go: %v", err)
	}

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := until(t.Context(), time.Minute, func() (bool, error) { return !r.alive(), nil }); err != nil {
		t.Fatalf("process %d still lives: %v", r.PID, err)
	}
	left := []string{c.Dir}
	for _, root := range roots {
		left = append(left, filepath.Join(root, c.cgroup()))
	}
	for _, path := range left {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	for name, value := range sysctls() {
		if value != before[name] {
			t.Errorf("%s is %s, and was %s", name, value, before[name])
		}
	}
}
