package manifest_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	yamlv2 "go.yaml.in/yaml/v2"

	"github.com/metamorph-k8s/metamorph/pkg/manifest"
)

// FuzzParse looks for documents that get lost. The YAML parser reads the first document of a text and drops the others
// without a word, so every text that [manifest.Parse] hands on must hold one only; and what is written must be read back
// as the same objects.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		set, "# c\n" + set + "---\n" + set, "--- {apiVersion: v1, kind: A}\n...\n", `{"apiVersion":"v1","kind":"A"}`, "a: |\n  ---\n---\n",
		"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: A}]\n", "%YAML 1.1\n---\napiVersion: v1\nkind: A\n", "\ufeff{\"a\":1,\"a\":2}",
		"kind: A\u0085apiVersion: v1\u2028---\u2029kind: B\rapiVersion: v1", "a: &a [*a]\n", "\"\n---\n\"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		docs, err := manifest.Parse("f", []byte(in))
		if err != nil {
			return
		}
		for _, d := range docs {
			if d.YAML {
				onlyOne(t, d.Text)
			}
		}
		var out bytes.Buffer
		if err := manifest.WriteYAML(&out, docs); err != nil {
			t.Fatal(err)
		}
		again, err := manifest.Parse("f", out.Bytes())
		if err != nil {
			t.Fatalf("cannot read what was written: %v\n%s", err, out.String())
		}
		if a, b := contents(docs), contents(again); !bytes.Equal(a, b) {
			t.Errorf("read %s\nwrote %s\nread back %s", a, out.String(), b)
		}
		if _, _, err := manifest.Expand(docs, manifest.Options{}); err != nil {
			t.Log(err)
		}
	})
}

func onlyOne(t *testing.T, text []byte) {
	t.Helper()
	dec := yamlv2.NewDecoder(bytes.NewReader(text))
	var v any
	if err := dec.Decode(&v); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("cannot be decoded: %v\n%q", err, text)
	}
	if err := dec.Decode(&v); !errors.Is(err, io.EOF) {
		t.Fatalf("another document in %q (%v)", text, err)
	}
}

func contents(docs []manifest.Document) []byte {
	var all [][]byte
	for _, d := range docs {
		if d.JSON == nil {
			continue
		}
		j := d.JSON
		if !d.YAML {
			// YAML writes numbers in its own way, and sorts.
			var out bytes.Buffer
			if err := manifest.WriteYAML(&out, []manifest.Document{d}); err != nil {
				panic(err)
			}
			some, err := manifest.Parse("f", out.Bytes())
			if err != nil || len(some) != 1 {
				panic(err)
			}
			j = some[0].JSON
		}
		all = append(all, j)
	}
	return bytes.Join(all, []byte("\n"))
}
