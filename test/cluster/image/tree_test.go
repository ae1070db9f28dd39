package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTreeIsWrittenWithAllThatLeadsThere(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := errors.Join(os.WriteFile(program, []byte("x"), 0o755), os.Symlink("program", filepath.Join(dir, "other"))); err != nil {
		t.Fatal(err)
	}
	tr := tree{}
	if err := errors.Join(tr.file("/bin/program", program), tr.folder("/opt/app", dir)); err != nil {
		t.Fatal(err)
	}
	tr.text("/etc/passwd", "root\n")
	tr.dir("/data", 0o775, appUser)
	var out bytes.Buffer
	if err := tr.write(&out); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %o %d %d %s", h.Name, h.Mode, h.Uid, h.Size, h.Linkname))
	}
	want := []string{
		"data/ 775 1000 0 ",
		"etc/ 755 0 0 ",
		"etc/passwd 644 0 5 ",
		"opt/ 755 0 0 ",
		"opt/app/ 755 0 0 ",
		"opt/app/other 777 0 0 program",
		"opt/app/program 755 0 1 ",
		"usr/ 755 0 0 ",
		"usr/bin/ 755 0 0 ",
		"usr/bin/program 755 0 1 ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestKeyChangesWithWhatIsInTheTree(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	key := func(text string, owner int) string {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		tr := tree{}
		tr.dir("data", 0o755, owner)
		if err := tr.file("f", file); err != nil {
			t.Fatal(err)
		}
		k, err := tr.key()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := key("a", 0)
	if key("ab", 0) == first {
		t.Error("another size, and the same key")
	}
	if key("a", appUser) == first {
		t.Error("another owner, and the same key")
	}
}
