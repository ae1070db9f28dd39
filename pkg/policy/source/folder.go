package source

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Limits of a folder.
const (
	maxFiles = 4096
	maxBytes = 32 << 20
)

// ReadFolder reads the Rego files and config.yaml below a folder, by their path as it is to be shown. Hidden folders are
// passed over: the kubelet keeps a mounted ConfigMap's files in one, behind links.
func ReadFolder(dir string) (map[string]string, error) {
	files := map[string]string{}
	size := 0
	root := filepath.Clean(dir)
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case file != root && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir(), filepath.Ext(file) != ".rego" && d.Name() != ConfigFile:
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(file)
		if d.Name() == ConfigFile {
			rel, err := filepath.Rel(root, file)
			if err != nil || rel != ConfigFile {
				return err // of a folder below: not ours
			}
			name = ConfigFile
		}
		if size += len(text); size > maxBytes || len(files) >= maxFiles {
			return fmt.Errorf("%s: more than %d files or %d MiB of policies", root, maxFiles, maxBytes>>20)
		}
		files[name] = string(text)
		return nil
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s: there is no .rego file and no %s in this folder", root, ConfigFile)
	}
	return files, err
}

// FolderName is the name of a folder as a source.
func FolderName(dir string) string { return "folder " + path.Clean(filepath.ToSlash(dir)) }

// WatchFolder reads a folder now and then every interval, until the context ends. It reads instead of being notified,
// because notifications do not come through network file systems, and the kubelet exchanges whole folders. Failed is told
// of a folder that cannot be read; its last good state stays.
func (m *Manager) WatchFolder(ctx context.Context, dir string, every time.Duration, failed func(error)) {
	last := ""
	for {
		files, err := ReadFolder(dir)
		if err == nil {
			err = m.Put(FolderName(dir), files)
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != last && err != nil {
			failed(err)
		}
		last = text
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}
