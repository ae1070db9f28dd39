package manifest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	yamlv2 "go.yaml.in/yaml/v2"
	"go.yaml.in/yaml/v3"

	"github.com/metamorph-k8s/metamorph/pkg/manifest"
)

// annotate annotates the only object of a file, or an item of its List, and returns the file.
func annotate(t *testing.T, file, in string, index int, set map[string]string) (string, error) {
	t.Helper()
	docs, err := manifest.Parse(file, []byte(in))
	if err != nil || len(docs) != 1 {
		t.Fatalf("%d documents, error %v", len(docs), err)
	}
	if docs[0], err = docs[0].Annotate(index, set); err != nil {
		return "", err
	}
	out, err := manifest.Splice([]byte(in), docs)
	if err != nil {
		t.Fatal(err)
	}
	return string(out), nil
}

func TestAnnotate(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: v1\nkind: A\n"
	heap := map[string]string{"m/heap": "1Gi"}
	tests := map[string]struct {
		file, in string
		list     bool // items[1] is annotated
		set      map[string]string
		want     string
	}{
		// A key that is not there yet.
		"a line more": {
			in:   head + "# why\nmetadata:\n  name: x   # the name\n  annotations:\n    # the role\n    m/role: kafka # one of two\n  labels: {a: b}\n",
			want: head + "# why\nmetadata:\n  name: x   # the name\n  annotations:\n    # the role\n    m/role: kafka # one of two\n    m/heap: 1Gi\n  labels: {a: b}\n",
		},
		"the indentation of the file": {
			in:   "kind: A\nmetadata:\n    annotations:\n          m/role: kafka\napiVersion: v1\n",
			want: "kind: A\nmetadata:\n    annotations:\n          m/role: kafka\n          m/heap: 1Gi\napiVersion: v1\n",
		},
		"several in the order of their names": {
			set:  map[string]string{"m/b": "1", "m/a": "x y", "m/c": "3"},
			in:   head + "metadata:\n  annotations:\n    m/c: \"2\"\n    m/d: 'z'\n",
			want: head + "metadata:\n  annotations:\n    m/c: \"3\"\n    m/d: 'z'\n    m/a: 'x y'\n    m/b: '1'\n",
		},
		"quotes like those before": {
			in:   head + "metadata:\n  annotations:\n    m/role: \"kafka\"\n",
			want: head + "metadata:\n  annotations:\n    m/role: \"kafka\"\n    m/heap: \"1Gi\"\n",
		},
		"quotes that were needed": {
			in:   head + "metadata: {annotations: {m/metrics: \"true\"}}\n",
			want: head + "metadata: {annotations: {m/metrics: \"true\", m/heap: 1Gi}}\n",
		},
		"no line end at the end": {
			in:   head + "metadata:\n  annotations:\n    m/role: kafka",
			want: head + "metadata:\n  annotations:\n    m/role: kafka\n    m/heap: 1Gi",
		},
		"behind a block scalar": {
			in:   head + "metadata:\n  annotations:\n    m/note: |  # a note\n      one\n\n       two\n\nspec: 1\n",
			want: head + "metadata:\n  annotations:\n    m/note: |  # a note\n      one\n\n       two\n    m/heap: 1Gi\n\nspec: 1\n",
		},
		"behind a block scalar that keeps its line ends": {
			in:   head + "metadata:\n  annotations:\n    m/note: |+\n      one\n\n\nspec: 1\n",
			want: head + "metadata:\n  annotations:\n    m/note: |+\n      one\n\n\n    m/heap: 1Gi\nspec: 1\n",
		},
		"behind a text of several lines": {
			in:   head + "metadata:\n  annotations:\n    m/note: one\n      two\nspec: 1\n",
			want: head + "metadata:\n  annotations:\n    m/note: one\n      two\n    m/heap: 1Gi\nspec: 1\n",
		},
		"behind a quoted text of several lines": {
			in:   head + "metadata:\n  annotations:\n    m/note: \"one \\\" \\\n      two\"\nspec: 1\n",
			want: head + "metadata:\n  annotations:\n    m/note: \"one \\\" \\\n      two\"\n    m/heap: 1Gi\nspec: 1\n",
		},
		"behind nothing": {
			in:   head + "metadata:\n  annotations:\n    m/note: # nothing\nspec: 1\n",
			want: head + "metadata:\n  annotations:\n    m/note: # nothing\n    m/heap: 1Gi\nspec: 1\n",
		},
		"behind an anchor and a tag": {
			in:   head + "metadata:\n  annotations:\n    m/note: &n !!str 1\nspec: *n\n",
			want: head + "metadata:\n  annotations:\n    m/note: &n !!str 1\n    m/heap: 1Gi\nspec: *n\n",
		},
		"flow style": {
			in:   head + "metadata: {name: x, annotations: {metamorph.dev/role: kafka}} # c\n",
			want: head + "metadata: {name: x, annotations: {metamorph.dev/role: kafka, m/heap: 1Gi}} # c\n",
		},
		"flow style inside a block": {
			in:   head + "metadata:\n  annotations: { m/role: 'kafka', }\n  name: x\n",
			want: head + "metadata:\n  annotations: { m/role: 'kafka', m/heap: '1Gi', }\n  name: x\n",
		},
		"flow style with an entry a line": {
			in:   head + "metadata:\n  annotations: {\n    m/role: kafka,  # a\n    m/x: y  # b\n  }\n",
			want: head + "metadata:\n  annotations: {\n    m/role: kafka,  # a\n    m/x: y,  # b\n    m/heap: 1Gi\n  }\n",
		},
		"flow style like JSON": {
			in:   "{\"apiVersion\": \"v1\", \"kind\": \"A\", metadata: {\"annotations\": {\"a\": \"b\"}}}\n",
			want: "{\"apiVersion\": \"v1\", \"kind\": \"A\", metadata: {\"annotations\": {\"a\": \"b\", \"m/heap\": \"1Gi\"}}}\n",
		},

		// No annotations yet.
		"no annotations": {
			in:   head + "metadata:\n  name: x # the name\nspec: {}\n",
			want: head + "metadata:\n  name: x # the name\n  annotations:\n    m/heap: 1Gi\nspec: {}\n",
		},
		"no annotations, behind a list": {
			in:   head + "metadata:\n    name: x\n    finalizers:\n    - a\n    - b\n# the spec\nspec: {}\n",
			want: head + "metadata:\n    name: x\n    finalizers:\n    - a\n    - b\n    annotations:\n        m/heap: 1Gi\n# the spec\nspec: {}\n",
		},
		"no annotations, in flow style": {
			in:   head + "metadata: {name: x, labels: {a: [b, {c: d}, ]  }}\n",
			want: head + "metadata: {name: x, labels: {a: [b, {c: d}, ]  }, annotations: {m/heap: 1Gi}}\n",
		},
		"no metadata": {
			in:   head + "spec:\n  a: |\n    b\n",
			want: head + "spec:\n  a: |\n    b\nmetadata:\n  annotations:\n    m/heap: 1Gi\n",
		},
		"an empty mapping": {
			in:   head + "metadata:\n  annotations: {}\n",
			want: head + "metadata:\n  annotations: {m/heap: 1Gi}\n",
		},
		"annotations of nothing": {
			in:   head + "metadata:\n   annotations: # none yet\n   # m/heap: 2Gi\n   name: x\n",
			want: head + "metadata:\n   annotations: # none yet\n      m/heap: 1Gi\n   # m/heap: 2Gi\n   name: x\n",
		},
		"annotations of nothing in flow style": {
			in:   head + "metadata: {annotations: , name: x}\n",
			want: head + "metadata: {annotations: {m/heap: 1Gi}, name: x}\n",
		},
		"annotations of null": {
			in:   head + "metadata:\n  annotations: ~ # none\n  name: x\n",
			want: head + "metadata:\n  annotations: {m/heap: 1Gi} # none\n  name: x\n",
		},
		"metadata of nothing": {
			in:   head + "metadata:\n",
			want: head + "metadata:\n  annotations:\n    m/heap: 1Gi\n",
		},

		// A key that has another value.
		"a plain value": {
			in:   head + "metadata:\n  annotations:\n    m/heap: 4Gi   # much\n    a: b\n",
			want: head + "metadata:\n  annotations:\n    m/heap: 1Gi   # much\n    a: b\n",
		},
		"the same value": {
			in:   head + "metadata:\n  annotations:\n    m/heap:   '1Gi'\n",
			want: head + "metadata:\n  annotations:\n    m/heap:   '1Gi'\n",
		},
		"a number": {
			in:   head + "metadata:\n  annotations:\n    m/heap: 3\n",
			set:  map[string]string{"m/heap": "3"},
			want: head + "metadata:\n  annotations:\n    m/heap: \"3\"\n",
		},
		"a quoted value": {
			in:   head + "metadata:\n  annotations: {\"m/heap\": \"4\\\"Gi\", a: b}\n",
			want: head + "metadata:\n  annotations: {\"m/heap\": \"1Gi\", a: b}\n",
		},
		"a value in single quotes": {
			in:   head + "metadata:\n  annotations:\n    'm/heap': '4''Gi' # much\n",
			set:  map[string]string{"m/heap": "it's"},
			want: head + "metadata:\n  annotations:\n    'm/heap': 'it''s' # much\n",
		},
		"a block scalar": {
			in:   head + "metadata:\n  annotations:\n    m/heap: >-\n      4\n      Gi\n    # next\n    a: b\n",
			want: head + "metadata:\n  annotations:\n    m/heap: 1Gi\n    # next\n    a: b\n",
		},
		"a value on the next line": {
			in:   head + "metadata:\n  annotations:\n    m/heap:\n      4Gi\n    a: b\n",
			want: head + "metadata:\n  annotations:\n    m/heap:\n      1Gi\n    a: b\n",
		},
		"a plain value of several lines": {
			in:   head + "metadata:\n  annotations:\n    m/heap: 4\n      Gi\n    a: b\n",
			want: head + "metadata:\n  annotations:\n    m/heap: 1Gi\n    a: b\n",
		},
		"a mapping": {
			in:   head + "metadata:\n  annotations:\n    m/heap: {a: [b]} # c\n    a: b\n",
			want: head + "metadata:\n  annotations:\n    m/heap: 1Gi # c\n    a: b\n",
		},
		"nothing": {
			in:   head + "metadata:\n  annotations:\n    m/heap:   # how much?\n    a: b\n",
			want: head + "metadata:\n  annotations:\n    m/heap: 1Gi   # how much?\n    a: b\n",
		},
		"an alias": {
			in:   head + "x: &x 4Gi\nmetadata:\n  annotations:\n    m/heap: *x # c\n    a: *x\n",
			want: head + "x: &x 4Gi\nmetadata:\n  annotations:\n    m/heap: 1Gi # c\n    a: *x\n",
		},
		"a key in a note is none": {
			in:   head + "metadata:\n  annotations:\n    a: |\n      m/heap: 4Gi\n    b: c\nspec: {metadata: {annotations: {m/heap: 4Gi}}}\n",
			want: head + "metadata:\n  annotations:\n    a: |\n      m/heap: 4Gi\n    b: c\n    m/heap: 1Gi\nspec: {metadata: {annotations: {m/heap: 4Gi}}}\n",
		},

		// Line ends, separators, marks.
		"windows line ends": {
			in:   "apiVersion: v1\r\nkind: A\r\nmetadata:\r\n  name: x\r\n\r\nspec: 1\r\n",
			want: "apiVersion: v1\r\nkind: A\r\nmetadata:\r\n  name: x\r\n  annotations:\r\n    m/heap: 1Gi\r\n\r\nspec: 1\r\n",
		},
		"windows line ends and a block scalar": {
			in:   "apiVersion: v1\r\nkind: A\r\nmetadata:\r\n  annotations:\r\n    m/heap: |\r\n      4\r\n\r\n    a: b\r\n",
			want: "apiVersion: v1\r\nkind: A\r\nmetadata:\r\n  annotations:\r\n    m/heap: 1Gi\r\n\r\n    a: b\r\n",
		},
		"characters of several bytes": {
			in:   head + "metadata: {\"näme\": '→', annotations: {ключ: 値, m/heap: 4Gi}}\n",
			want: head + "metadata: {\"näme\": '→', annotations: {ключ: 値, m/heap: 1Gi}}\n",
		},
		"content beside the separator": {
			in:   "--- {apiVersion: v1, kind: A}\n",
			want: "--- {apiVersion: v1, kind: A, metadata: {annotations: {m/heap: 1Gi}}}\n",
		},

		// Lists.
		"an item": {
			list: true,
			in:   "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: A\n- apiVersion: v1  # second\n  kind: A\n  metadata:\n    name: x\n- {apiVersion: v1, kind: A}\n",
			want: "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: A\n- apiVersion: v1  # second\n  kind: A\n  metadata:\n    name: x\n    annotations:\n      m/heap: 1Gi\n- {apiVersion: v1, kind: A}\n",
		},
		"an item in flow style": {
			list: true,
			in:   "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: A}, {apiVersion: v1, kind: A}]\n",
			want: "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: A}, {apiVersion: v1, kind: A, metadata: {annotations: {m/heap: 1Gi}}}]\n",
		},

		// Aliases and merge keys. The first three stay in their place.
		"an alias that is merged": {
			in:   head + "x: &x {a: b}\nmetadata:\n  annotations: *x # shared\n",
			want: head + "x: &x {a: b}\nmetadata:\n  annotations: {<<: *x, m/heap: 1Gi} # shared\n",
		},
		"a merge key": {
			in:   head + "x: &x {a: b}\nmetadata:\n  annotations:\n    <<: *x\n",
			want: head + "x: &x {a: b}\nmetadata:\n  annotations:\n    <<: *x\n    m/heap: 1Gi\n",
		},
		"an anchor around it that nobody uses": {
			in:   head + "metadata: &m\n  annotations: &a\n    a: b\n",
			want: head + "metadata: &m\n  annotations: &a\n    a: b\n    m/heap: 1Gi\n",
		},
		"a merge key that brings the key": {
			in:   head + "x: &x {a: b, m/heap: 4Gi} # c\nmetadata:\n    annotations:\n        <<: *x\n",
			want: head + "x: {a: b, m/heap: 4Gi} # c\nmetadata:\n  annotations:\n    a: b\n    m/heap: 1Gi\n",
		},
		"an anchor that others use": {
			in:   head + "metadata: # c\n    annotations: &a\n        a: b\nspec: *a\n",
			want: head + "metadata: # c\n  annotations:\n    a: b\n    m/heap: 1Gi\nspec:\n  a: b\n",
		},
		"metadata of an alias": {
			in:   head + "x: &x {name: a}\nmetadata: *x\n",
			want: head + "x: &x {name: a}\nmetadata: {<<: *x, annotations: {m/heap: 1Gi}}\n",
		},
		"a merge key that brings the annotations": {
			in:   head + "x: &x\n  annotations: {a: b} # c\nmetadata:\n  <<: [*x]\n  name: x\n",
			want: head + "x:\n  annotations: {a: b} # c\nmetadata:\n  annotations: {a: b, m/heap: 1Gi} # c\n  name: x\n",
		},
		"an anchor on nothing": {
			in:   head + "metadata:\n  annotations: &a\nspec: *a\n",
			want: head + "metadata:\n  annotations:\n    m/heap: 1Gi\nspec:\n",
		},
		"behind a tag on nothing": {
			in:   head + "metadata:\n  annotations:\n    a: !!str\n",
			want: head + "metadata:\n  annotations:\n    m/heap: 1Gi\n    a: !!str\n",
		},
		"an explicit key": {
			in:   head + "metadata:\n  annotations:\n    ? m/heap\n    : 4Gi\n",
			want: head + "metadata:\n  annotations:\n    ? m/heap\n    : 1Gi\n",
		},

		// JSON.
		"JSON": {
			file: "f.json",
			in:   "{\n  \"apiVersion\": \"v1\", \"kind\": \"A\",\n  \"metadata\": {\n    \"annotations\": {\n      \"a\": \"b\",\n      \"c\": \"</d>\"\n    },\n    \"x\": 1.50\n  }\n}\n",
			want: "{\n  \"apiVersion\": \"v1\", \"kind\": \"A\",\n  \"metadata\": {\n    \"annotations\": {\n      \"a\": \"b\",\n      \"c\": \"</d>\",\n      \"m/heap\": \"1Gi\"\n    },\n    \"x\": 1.50\n  }\n}\n",
		},
		"JSON without annotations": {
			file: "f.json",
			in:   "\n{\"apiVersion\": \"v1\", \"kind\": \"A\", \"metadata\": {\"annotations\": null}}",
			want: "\n{\"apiVersion\": \"v1\", \"kind\": \"A\", \"metadata\": {\"annotations\": {\"m/heap\": \"1Gi\"}}}",
		},
		"JSON that is not YAML": {
			file: "f.json",
			in:   "{\n\t\"kind\": \"A\", \"smile\": \"\\ud83d\\ude00\",\n\t\"apiVersion\": \"v1\", \"n\": 1.50}\n",
			want: "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"A\",\n  \"metadata\": {\n    \"annotations\": {\n      \"m/heap\": \"1Gi\"\n    }\n  },\n  \"n\": 1.50,\n  \"smile\": \"😀\"\n}\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, index, set := "f.yaml", -1, heap
			if test.file != "" {
				file = test.file
			}
			if test.list {
				index = 1
			}
			if test.set != nil {
				set = test.set
			}
			got, err := annotate(t, file, test.in, index, set)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestAnnotateValues writes values that YAML would take for something else without quotes, and reads them with both of
// its versions.
func TestAnnotateValues(t *testing.T) {
	t.Parallel()
	in := "apiVersion: v1\nkind: A\nmetadata: {annotations: {a: b}}\n"
	for value, want := range map[string]string{
		"1Gi": "1Gi", "a-b/c.d_e": "a-b/c.d_e", "10%": "10%", "4.3.1": "4.3.1", "retention.ms=5": "retention.ms=5",
		"": `""`, "3": `"3"`, "-1": `"-1"`, "true": `"true"`, "no": `"no"`, "y": `"y"`, "On": `"On"`, "~": `"~"`, "null": `"null"`,
		"1e3": `"1e3"`, "0x1F": `"0x1F"`, "0o17": `"0o17"`, "0777": `"0777"`, "0b1": `"0b1"`, "1_000": `"1_000"`, ".5": `".5"`, "5.": `"5."`,
		".inf": `".inf"`, "12:30:45": `"12:30:45"`, "2026-01-02": `"2026-01-02"`, "<<": `"<<"`, "=": `"="`,
		"a: b": `"a: b"`, "a #b": `"a #b"`, "#": `"#"`, "*x": `"*x"`, "&x": `"&x"`, "!x": `"!x"`, "{}": `"{}"`, "a,b": `"a,b"`, "-": `"-"`, "---": `"---"`,
		" a ": `" a "`, "a\nb\r\n---\n": `"a\nb\r\n---\n"`, "\t\x00\x1b\x7f\u0085\u2028\ufeff\uffff": `"\t\u0000\u001b\u007f\u0085\u2028\ufeff\uffff"`,
		`"\'`: `"\"\\'"`, "ключ 😀": `"ключ 😀"`, "<&>": `"<&>"`,
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			got, err := annotate(t, "f.yaml", in, -1, map[string]string{"k": value})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Replace(in, "}", ", k: "+want+"}", 1), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			var old, now struct {
				Metadata struct{ Annotations map[string]any }
			}
			if err := yamlv2.Unmarshal([]byte(got), &old); err != nil {
				t.Fatal(err)
			}
			if err := yaml.Unmarshal([]byte(got), &now); err != nil {
				t.Fatal(err)
			}
			if o, n := old.Metadata.Annotations["k"], now.Metadata.Annotations["k"]; o != value || n != value {
				t.Errorf("read as %#v and %#v", o, n)
			}
		})
	}
}

func TestAnnotateErrors(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		in    string
		index int
		set   map[string]string
		want  string
	}{
		"no content":               {in: "# c\n", index: -1, want: "f.yaml:1: document 1: a document without content has no annotations"},
		"a List":                   {in: "apiVersion: v1\nkind: List\nitems: []\n", index: -1, want: "f.yaml:1: document 1: a List has no annotations; they are its items'"},
		"no List":                  {in: set, index: 0, want: "f.yaml:1: document 1, items[0]: not a List"},
		"no such item":             {in: "apiVersion: v1\nkind: List\nitems: []\n", index: 0, want: "f.yaml:1: document 1, items[0]: the List has 0 items"},
		"metadata of another type": {in: "apiVersion: v1\nkind: A\nmetadata: x\n", index: -1, want: "f.yaml:1: document 1: metadata is not a mapping"},
		"annotations in a list":    {in: "apiVersion: v1\nkind: A\nmetadata: {annotations: []}\n", index: -1, want: "f.yaml:1: document 1: annotations is not a mapping"},
		"a key that is a number":   {in: "apiVersion: v1\nkind: A\nmetadata: {annotations: {01: b}}\n", index: -1, set: map[string]string{"1": "c"}, want: `f.yaml:1: document 1: cannot write the annotations into this document: the key 1 is there, but written in another way`},
		"not UTF-8":                {in: set, index: -1, set: map[string]string{"a": "\xff"}, want: `f.yaml:1: document 1: the annotation "a" is not a text in UTF-8`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.set == nil {
				test.set = map[string]string{"a": "b"}
			}
			_, err := annotate(t, "f.yaml", test.in, test.index, test.set)
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestAnnotateHostile holds that documents made to hurt are annotated, or refused, in reasonable time.
func TestAnnotateHostile(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: v1\nkind: A\n"
	laughs := head + "a0: &a0 {x: y}\n"
	for i := range 6 { // the parser refuses more
		laughs += fmt.Sprintf("a%d: &a%[1]d [*a%[2]d, *a%[2]d]\n", i+1, i)
	}
	for name, test := range map[string]struct {
		in      string
		inPlace bool
	}{
		"deep nesting":                   {head + "spec: " + strings.Repeat("{a: [", 2000) + strings.Repeat("]}", 2000) + "\n", true},
		"deep nesting in annotations":    {head + "metadata: {annotations: {x: " + strings.Repeat("{a: [", 2000) + strings.Repeat("]}", 2000) + "}}\n", true},
		"deep nesting in lines":          {head + "spec:\n" + strings.Repeat("- ", 1000) + "a\n", true},
		"aliases of aliases":             {laughs, true},
		"aliases of aliases to annotate": {laughs + "metadata: {annotations: &a {}}\nb: *a\n", false},
		"a long line":                    {head + "spec: " + strings.Repeat("é", 1<<20) + "\nmetadata: {name: x}\n", true},
		"many lines":                     {head + strings.Repeat("# c\n\n", 1<<17) + "metadata: {name: x}\n", true},
		"many keys":                      {head + "metadata:\n  annotations:\n" + manyKeys(20000), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := annotate(t, "f.yaml", test.in, -1, map[string]string{"k": "v"})
			if err != nil {
				t.Fatal(err)
			}
			if inPlace := len(got) <= len(test.in)+len("metadata:\n  annotations:\n    k: v\n"); inPlace != test.inPlace {
				t.Errorf("changed in place: %t; %d bytes became %d", inPlace, len(test.in), len(got))
			}
		})
	}
}

func manyKeys(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, "    a%d: %d\n", i, i)
	}
	return out.String()
}

func TestSplice(t *testing.T) {
	t.Parallel()
	const a, b = "apiVersion: v1\nkind: A\nmetadata: {name: a}\n", "apiVersion: v1\nkind: B\n"
	tests := map[string]struct {
		file, in, want string // every document with an object is annotated
	}{
		"separators and comments": {
			in:   "# licence\n---\n\n" + a + "---   # second\n" + b + "...\n# end\n---\n\n",
			want: "# licence\n---\n\napiVersion: v1\nkind: A\nmetadata: {name: a, annotations: {k: v}}\n---   # second\n" + b + "metadata:\n  annotations:\n    k: v\n...\n# end\n---\n\n",
		},
		"a byte order mark and windows line ends": {
			in:   "\ufeff---\r\nkind: A\r\napiVersion: v1\r\n---\r\nkind: B\r\napiVersion: v1",
			want: "\ufeff---\r\nkind: A\r\napiVersion: v1\r\nmetadata:\r\n  annotations:\r\n    k: v\r\n---\r\nkind: B\r\napiVersion: v1\r\nmetadata:\r\n  annotations:\r\n    k: v",
		},
		"content beside the marks": {
			in:   "--- {apiVersion: v1, kind: A}\n... {apiVersion: v1, kind: B}\n--- # c\n" + a,
			want: "--- {apiVersion: v1, kind: A, metadata: {annotations: {k: v}}}\n...\n {apiVersion: v1, kind: B, metadata: {annotations: {k: v}}}\n--- # c\napiVersion: v1\nkind: A\nmetadata: {name: a, annotations: {k: v}}\n",
		},
		"written anew beside the marks": {
			in:   "--- {apiVersion: v1, kind: A, metadata: {annotations: &a {}}, spec: *a}\n... {apiVersion: v1, kind: B, metadata: {annotations: &a {}}, spec: *a}\n---\n" + b,
			want: "---\n{apiVersion: v1, kind: A, metadata: {annotations: {k: v}}, spec: {}}\n...\n{apiVersion: v1, kind: B, metadata: {annotations: {k: v}}, spec: {}}\n---\n" + b + "metadata:\n  annotations:\n    k: v\n",
		},
		"JSON in a row": {
			file: "f.json",
			in:   "{\"apiVersion\": \"v1\", \"kind\": \"A\"}\t{\"apiVersion\": \"v1\", \"kind\": \"B\"}\n\n",
			want: "{\"apiVersion\": \"v1\", \"kind\": \"A\", \"metadata\": {\"annotations\": {\"k\": \"v\"}}}\t{\"apiVersion\": \"v1\", \"kind\": \"B\", \"metadata\": {\"annotations\": {\"k\": \"v\"}}}\n\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.file == "" {
				test.file = "f.yaml"
			}
			docs, err := manifest.Parse(test.file, []byte(test.in))
			if err != nil {
				t.Fatal(err)
			}
			same, err := manifest.Splice([]byte(test.in), docs)
			if err != nil || string(same) != test.in {
				t.Errorf("untouched, but error %v and\n%s", err, cmp.Diff(test.in, string(same)))
			}
			for i, d := range docs {
				if d.JSON == nil {
					continue
				}
				if docs[i], err = d.Annotate(-1, map[string]string{"k": "v"}); err != nil {
					t.Fatal(err)
				}
			}
			got, err := manifest.Splice([]byte(test.in), docs)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestSpliceErrors(t *testing.T) {
	t.Parallel()
	in := []byte(set + "---\n" + set)
	docs, err := manifest.Parse("f.yaml", in)
	if err != nil {
		t.Fatal(err)
	}
	broken := slices.Clone(docs)
	broken[0].Text = []byte("{}\n")
	for name, test := range map[string]struct {
		file []byte
		docs []manifest.Document
		want string
	}{
		"another order":  {in, []manifest.Document{docs[1], docs[0]}, "f.yaml:1: document 1: not of this file, or not in its order"},
		"another file":   {[]byte("a: b\n"), docs, "f.yaml:1: document 1: not of this file, or not in its order"},
		"another object": {in, broken, "f.yaml: cannot put the documents together again: f.yaml:1: document 1: apiVersion is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := manifest.Splice(test.file, test.docs)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("error %v", err)
			}
		})
	}
	if got, err := manifest.Splice(in, docs[1:]); err != nil || !bytes.Equal(got, in) {
		t.Errorf("one document of two: error %v\n%s", err, got)
	}
}

// FuzzAnnotate annotates whatever can be read, and reads it again: nothing else may change.
func FuzzAnnotate(f *testing.F) {
	for _, seed := range []string{
		set, "# c\n" + set + "---\n" + set, "--- {apiVersion: v1, kind: A}\n...\n", `{"apiVersion":"v1","kind":"A","metadata":{"annotations":{}}}`,
		"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: A\n  metadata:\n    annotations:\n",
		"apiVersion: v1\nkind: A\nx: &x {a: b}\nmetadata: &m\n  <<: *x\n  annotations: &a\n    <<: [*x]\n    k: !!str |+\n      a\n\n\nspec: [*m, *a]\n",
		"%YAML 1.1\n---\napiVersion: v1\nkind: A\nmetadata: {annotations: ~}", "\ufeffkind: A\u0085apiVersion: v1\u2028metadata:\u2029 annotations:\r",
		"? apiVersion\n: v1\n? kind\n: \"A\"\n? metadata\n: ? annotations\n  : ? k\n    : 'v''w'\n", "kind: A\napiVersion: v1\nmetadata: {annotations: {k: [a, {b}, ], # c\n  ? l : m}}\n",
	} {
		f.Add(seed, "k", "v")
	}
	f.Fuzz(func(t *testing.T, in, key, value string) {
		docs, err := manifest.Parse("f", []byte(in))
		if err != nil {
			return
		}
		if same, err := manifest.Splice([]byte(in), docs); err != nil || string(same) != in {
			t.Fatalf("untouched, but %q, error %v", same, err)
		}
		want := make([]any, len(docs))
		for i, d := range docs {
			if d.JSON == nil {
				continue
			}
			if ambiguous(t, d) {
				t.Skip("reads as one thing or the other")
			}
			index := -1
			if bytes.Contains(d.JSON, []byte(`"kind":"List"`)) {
				index = 0
			}
			out, err := d.Annotate(index, map[string]string{key: value, "metamorph.dev/heap": "1Gi"})
			if err != nil {
				t.Log(err)
			} else {
				docs[i] = out
			}
			want[i] = annotated(t, d.JSON, index, err == nil, map[string]string{key: value, "metamorph.dev/heap": "1Gi"})
		}
		file, err := manifest.Splice([]byte(in), docs)
		if err != nil {
			t.Fatal(err)
		}
		again, err := manifest.Parse("f", file)
		if err != nil || len(again) != len(docs) {
			t.Fatalf("%d documents instead of %d, error %v, in\n%s", len(again), len(docs), err, file)
		}
		for i, d := range again {
			if d.JSON != nil && !reflect.DeepEqual(want[i], annotated(t, d.JSON, -1, false, nil)) {
				t.Errorf("document %d of %q became %s", i, in, d.Text)
			}
		}
	})
}

// annotated reads JSON and sets annotations in the simplest way.
func annotated(t *testing.T, raw []byte, index int, do bool, annotations map[string]string) any {
	t.Helper()
	var root map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&root); err != nil {
		t.Fatal(err)
	}
	if !do {
		return root
	}
	at := root
	if index >= 0 {
		at = root["items"].([]any)[index].(map[string]any)
	}
	for _, name := range []string{"metadata", "annotations"} {
		if at[name] == nil {
			at[name] = map[string]any{}
		}
		at = at[name].(map[string]any)
	}
	for k, v := range annotations {
		at[k] = v
	}
	return root
}

// ambiguous tells whether a mapping has different keys that are the same in JSON, such as 1 and "1". The conversion then
// takes one of them, by chance.
func ambiguous(t *testing.T, d manifest.Document) bool {
	t.Helper()
	var v any
	if err := yamlv2.Unmarshal(d.Text, &v); err != nil && d.YAML {
		t.Fatal(err)
	}
	return sameNames(v)
}

func sameNames(v any) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, sameNames)
	case map[any]any:
		names := map[string]bool{}
		for key, value := range v {
			name := fmt.Sprint(key)
			if n, err := strconv.ParseFloat(name, 64); err == nil {
				name = fmt.Sprint(n)
			}
			if names[name] || sameNames(value) {
				return true
			}
			names[name] = true
		}
	}
	return false
}
