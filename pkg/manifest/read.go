// Package manifest reads, expands and writes Kubernetes manifests: YAML and JSON files with any number of documents and
// Lists, as people keep them and pass them to kubectl. It needs no cluster and no client.
//
// What it does not change it gives back as it was written: the document's own text, comments included.
package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// MaxBytes bounds all inputs of one [Read] together. An object has at most 1.5 MiB in etcd, so this is a whole
// cluster's worth of StatefulSets; more is a mistake, such as a device or an archive given as a manifest.
const MaxBytes = 32 << 20

// Stdin is how the standard input is called on the command line, and StdinName how messages call it.
const (
	Stdin     = "-"
	StdinName = "stdin"
)

// byteOrderMark is what some editors put before UTF-8.
const byteOrderMark = "\xef\xbb\xbf"

// extensions are those of the files that are read in a folder.
var extensions = []string{".yaml", ".yml", ".json"}

// Document is one document of a manifest.
type Document struct {
	// File is the path as it was given, or StdinName.
	File string
	// Number counts the file's documents from 1, those without content included.
	Number int
	// Line is the document's first line in the file, from 1.
	Line int
	// Text is the document as it was written, without its separator.
	Text []byte
	// JSON is the document's content; nil if it has none but comments.
	JSON []byte
	// YAML tells that Text is YAML. JSON is YAML too, but for the tabs that it may be indented with.
	YAML bool

	// start and end are where Text was read, as offsets in the file behind its byte order mark; for Splice.
	start, end int
}

// Where is the document's place for messages: file:line: document n.
func (d Document) Where() string { return place(d.File, d.Line, d.Number) }

func place(file string, line, number int) string {
	return fmt.Sprintf("%s:%d: document %d", file, line, number)
}

// SyntaxError is a document that cannot be read.
type SyntaxError struct {
	File   string
	Number int // of the document, from 1
	Line   int // in the file, from 1
	Reason string
}

func (e *SyntaxError) Error() string { return place(e.File, e.Line, e.Number) + ": " + e.Reason }

// Read reads files, folders and, for [Stdin], the standard input, in the order given. Of a folder it takes the files
// *.yaml, *.yml and *.json in the order of their names, and none from the folders inside. The error joins everything
// that could not be read.
func Read(paths []string, stdin io.Reader) ([]Document, error) {
	files, errs := find(paths)
	var docs []Document
	left := int64(MaxBytes)
	for _, file := range files {
		data, err := load(file, stdin, left)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		left -= int64(len(data))
		name := file
		if file == Stdin {
			name = StdinName
		}
		some, err := Parse(name, data)
		if err != nil {
			errs = append(errs, err)
		}
		docs = append(docs, some...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return docs, nil
}

// find replaces folders by what is in them.
func find(paths []string) (files []string, errs []error) {
	for _, path := range paths {
		if path == Stdin {
			if slices.Contains(files, Stdin) {
				errs = append(errs, errors.New("the standard input can be read only once"))
				continue
			}
			files = append(files, path)
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		inside, err := listFolder(path)
		if err != nil {
			errs = append(errs, err)
		}
		files = append(files, inside...)
	}
	return files, errs
}

func listFolder(path string) ([]string, error) {
	entries, err := os.ReadDir(path) // sorted
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains(extensions, filepath.Ext(e.Name())) {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no file *%s in this folder", path, strings.Join(extensions, ", *"))
	}
	return files, nil
}

// load reads one file of at most limit bytes.
func load(file string, stdin io.Reader, limit int64) ([]byte, error) {
	in, name := stdin, StdinName
	if file != Stdin {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in, name = f, file
	}
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: the input is larger than %d MiB, which is the most that is read at once", name, MaxBytes>>20)
	}
	return data, nil
}

// Parse takes a manifest apart into its documents. File is its name for messages; with .json at its end, only JSON is
// taken. The error joins a [SyntaxError] for every document that cannot be read: malformed, a key twice in an object,
// or not an object with apiVersion and kind.
func Parse(file string, data []byte) ([]Document, error) {
	data = bytes.TrimPrefix(data, []byte(byteOrderMark))
	onlyJSON := filepath.Ext(file) == ".json"
	if onlyJSON || startsLikeJSON(data) {
		docs, err := parseJSON(file, data)
		if err == nil || onlyJSON {
			return docs, err
		}
		// YAML in flow style begins like JSON, and so does a YAML file of JSON documents.
	}
	return parseYAML(file, data)
}

func startsLikeJSON(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && (data[0] == '{' || data[0] == '[')
}
