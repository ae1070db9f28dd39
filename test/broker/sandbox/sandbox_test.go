package sandbox_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/metamorph-k8s/metamorph/test/broker/sandbox"
)

// marker is in the command line of a process that the sandbox's program starts.
const markerVariable = "SANDBOX_TEST_MARKER"

func TestMain(m *testing.M) {
	if os.Getenv(markerVariable) == "" {
		os.Exit(m.Run())
	}
	if err := act(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// act is a program that runs itself in a sandbox and there starts another, which does not end by itself.
func act() error {
	if !sandbox.Inside() {
		_, err := sandbox.Run()
		return err
	}
	scratch, err := sandbox.Enter()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(scratch, os.Getenv(markerVariable)), nil, 0o644); err != nil {
		return err
	}
	cmd := exec.Command("sh", "-c", "echo started; while :; do sleep 1; done", os.Getenv(markerVariable))
	cmd.Stdout = os.Stdout
	return cmd.Run()
}

// A test that is killed must leave nothing: no processes, and no files.
func TestAllEndsWithTheProcessOutside(t *testing.T) {
	marker := fmt.Sprintf("sandbox-test-%d", os.Getpid())
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), markerVariable+"="+marker)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "started\n" {
		t.Fatalf("got %q, %v\n%s", line, err, complaints.String())
	}
	if len(processes(t, marker)) == 0 {
		t.Error("the process in the sandbox is not there, so that this test would not notice when it stays")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// It was killed, as it should be.
	_ = cmd.Wait()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		left := processes(t, marker)
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still there: %v", left)
		}
	}
	for _, dir := range []string{"/mnt", "/media", "/srv"} {
		if _, err := os.Stat(filepath.Join(dir, marker)); err == nil {
			t.Errorf("a file was left in %s", dir)
		}
	}
}

// processes are those with a word in their command line.
func processes(t *testing.T, word string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		// Whoever has ended in between is not there.
		raw, _ := os.ReadFile(file)
		if strings.Contains(string(raw), word) {
			found = append(found, file)
		}
	}
	return found
}
