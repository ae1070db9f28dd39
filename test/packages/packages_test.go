package packages_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/metamorph-k8s/metamorph/test/packages"
)

func TestWhatIsThereIsNotInstalled(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{"one", "two"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Without apt-get on it, an attempt to install fails.
	t.Setenv("PATH", bin)
	if err := packages.Ensure(t.Context(), io.Discard, map[string]string{"one": "first", "two": "second"}); err != nil {
		t.Error(err)
	}
}

func TestWhatIsMissingIsNamedWithItsPackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := packages.Ensure(t.Context(), io.Discard, map[string]string{"one": "first", "two": "first", "three": "third"})
	if err == nil {
		t.Fatal("no error for programs that are not there")
	}
	for _, want := range []string{"one, three, two", "apt-get install first third)"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}
