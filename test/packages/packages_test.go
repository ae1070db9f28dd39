package packages

import (
	"strings"
	"testing"
)

func TestWhatIsThereIsNotInstalled(t *testing.T) {
	var progress strings.Builder
	if err := Ensure(t.Context(), &progress, map[string]string{"sh": "no-such-package"}); err != nil || progress.Len() > 0 {
		t.Errorf("Ensure: %v, told %q", err, progress.String())
	}
}

func TestTheErrorNamesWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // so that apt-get is not found, whoever runs this
	err := Ensure(t.Context(), nil, map[string]string{"containerd": "containerd", "runc": "runc"})
	want := "containerd, runc not found; install what has it (on Debian: apt-get install containerd runc)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
