package main

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"metamorph": main})
}

// TestScripts runs the scenarios in testdata/script against the command.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("KUBECONFIG", "")
			return nil
		},
	})
}

// TestHelp holds that every command has help with an example that names it.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, cmd := range newCommand().Commands() {
		t.Run(cmd.Name(), func(t *testing.T) {
			t.Parallel()
			if cmd.Short == "" || !strings.Contains(cmd.Example, "metamorph "+cmd.Name()) {
				t.Errorf("short %q, example %q", cmd.Short, cmd.Example)
			}
			for line := range strings.Lines(cmd.Long) {
				if len(line) > 121 {
					t.Errorf("a line has %d characters: %s", len(line), line)
				}
			}
		})
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	var stderr strings.Builder
	code := run(context.Background(), []string{"panic"}, strings.NewReader(""), io.Discard, &stderr, &cobra.Command{
		Use: "panic", Run: func(*cobra.Command, []string) { panic("oh") },
	})
	if code != exitInternal {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"internal error: oh", "script_test.go", issues} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%q is not in:\n%s", want, stderr.String())
		}
	}
}

func TestInternalError(t *testing.T) {
	t.Parallel()
	var stderr strings.Builder
	code := run(context.Background(), []string{"fail"}, nil, io.Discard, &stderr, &cobra.Command{
		Use: "fail", RunE: runs(func(*cobra.Command, []string) error { return io.ErrClosedPipe }),
	})
	if want := "Error: io: read/write on closed pipe\n"; code != exitInternal || stderr.String() != want {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
}

func TestPaint(t *testing.T) {
	t.Parallel()
	f, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, w := range map[string]io.Writer{"a file": f, "a buffer": &strings.Builder{}} {
		if got := paint(w, red, "x"); got != "x" {
			t.Errorf("%s is coloured: %q", name, got)
		}
	}
	for name, test := range map[string]struct {
		env  map[string]string
		want bool
	}{
		"a terminal":          {want: true},
		"NO_COLOR":            {env: map[string]string{"NO_COLOR": "1"}},
		"NO_COLOR, but empty": {env: map[string]string{"NO_COLOR": ""}, want: true},
		"a dumb terminal":     {env: map[string]string{"TERM": "dumb"}},
	} {
		if got := coloured(true, func(k string) string { return test.env[k] }); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
