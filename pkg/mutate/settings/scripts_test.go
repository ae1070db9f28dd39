package settings_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestScripts lets bash read the scripts that go into the pods, without running them.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("files/*.sh")
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if out, err := exec.Command("bash", "-n", f).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", f, err, out)
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\r") {
			t.Errorf("%s has carriage returns", f)
		}
	}
}
