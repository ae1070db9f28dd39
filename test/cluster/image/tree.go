package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// tree is a file system to be: what stands at a path, which is relative and has no link in it.
type tree map[string]entry

// entry is a directory, unless it is something else.
type entry struct {
	source string // a file of this machine's
	text   string
	link   string
	mode   fs.FileMode
	owner  int
}

// newTree is a file system with the layout of today's distributions, in which /bin is in /usr.
func newTree() tree {
	t := tree{}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		t.dir("usr/"+dir, 0o755, 0)
		t[dir] = entry{link: "usr/" + dir, mode: fs.ModeSymlink | 0o777}
	}
	t.dir("tmp", 0o777|fs.ModeSticky, 0)
	for _, dir := range []string{"dev", "etc", "home", "proc", "root", "run", "sys", "var/log"} {
		t.dir(dir, 0o755, 0)
	}
	return t
}

func (t tree) dir(at string, mode fs.FileMode, owner int) {
	t[place(at)] = entry{mode: fs.ModeDir | mode, owner: owner}
}

func (t tree) text(at, text string) { t[place(at)] = entry{text: text, mode: 0o644} }

func (t tree) link(at, to string) { t[place(at)] = entry{link: to, mode: fs.ModeSymlink | 0o777} }

// file puts a file there; a link stands for what it leads to.
func (t tree) file(at, source string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	t[place(at)] = entry{source: source, mode: info.Mode().Perm()}
	return nil
}

// folder puts a directory with all that is in it there.
func (t tree) folder(at, source string) error {
	return filepath.WalkDir(source, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, name)
		if err != nil {
			return err
		}
		to := path.Join(at, filepath.ToSlash(rel))
		switch {
		case e.IsDir():
			t.dir(to, 0o755, 0)
		case e.Type() == fs.ModeSymlink:
			link, err := os.Readlink(name)
			if err != nil {
				return err
			}
			t.link(to, link)
		default:
			return t.file(to, name)
		}
		return nil
	})
}

// place is where a path of this machine's stands in a tree.
func place(at string) string {
	at = strings.TrimPrefix(path.Clean("/"+at), "/")
	for _, dir := range []string{"bin/", "sbin/", "lib/", "lib64/"} {
		if strings.HasPrefix(at, dir) {
			return "usr/" + at
		}
	}
	return at
}

// key changes with what is in the tree, as far as names, sizes and times tell.
func (t tree) key() (string, error) {
	hash := sha256.New()
	for _, at := range slices.Sorted(maps.Keys(t)) {
		e := t[at]
		fmt.Fprintln(hash, at, e.source, e.text, e.link, e.mode, e.owner)
		if e.source == "" {
			continue
		}
		info, err := os.Stat(e.source)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(hash, info.Size(), info.ModTime().UnixNano())
	}
	return hex.EncodeToString(hash.Sum(nil)[:8]), nil
}

// write writes the tree as a tar file that is the same for the same tree.
func (t tree) write(out io.Writer) error {
	for at := range maps.Clone(t) {
		for dir := path.Dir(at); dir != "."; dir = path.Dir(dir) {
			if _, ok := t[dir]; !ok {
				t.dir(dir, 0o755, 0)
			}
		}
	}
	w := tar.NewWriter(out)
	for _, at := range slices.Sorted(maps.Keys(t)) { // a directory before what is in it
		if err := t.writeEntry(w, at, t[at]); err != nil {
			return err
		}
	}
	return w.Close()
}

func (t tree) writeEntry(w *tar.Writer, at string, e entry) error {
	header := &tar.Header{Name: at, Mode: int64(e.mode.Perm()), Uid: e.owner, Gid: e.owner, Format: tar.FormatPAX}
	if e.mode&fs.ModeSticky != 0 {
		header.Mode |= 0o1000
	}
	switch {
	case e.mode.IsDir():
		header.Typeflag, header.Name = tar.TypeDir, at+"/"
	case e.link != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, e.link
	case e.source == "":
		header.Size = int64(len(e.text))
	default:
		info, err := os.Stat(e.source)
		if err != nil {
			return err
		}
		header.Size = info.Size()
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	if e.source == "" {
		_, err := io.WriteString(w, e.text)
		return err
	}
	f, err := os.Open(e.source)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("%s: %w", e.source, err)
	}
	return nil
}
