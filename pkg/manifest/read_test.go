package manifest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/metamorph-k8s/metamorph/pkg/manifest"
)

func TestParse(t *testing.T) {
	t.Parallel()
	const a, b = "apiVersion: v1\nkind: A\n", "apiVersion: v1\nkind: B\n"
	const jsonA = `{"apiVersion":"v1","kind":"A"}`
	type doc struct {
		Number, Line int
		Text, JSON   string
	}
	tests := map[string]struct {
		file, in string
		want     []doc
	}{
		"nothing":                        {in: ""},
		"white space and separators":     {in: "\n---\n  \n---\n...\n"},
		"one document":                   {in: a, want: []doc{{1, 1, a, jsonA}}},
		"a byte order mark":              {in: "\ufeff" + a, want: []doc{{1, 1, a, jsonA}}},
		"a leading separator":            {in: "---\n" + a, want: []doc{{1, 2, a, jsonA}}},
		"two documents":                  {in: a + "---\n" + b, want: []doc{{1, 1, a, jsonA}, {2, 4, b, `{"apiVersion":"v1","kind":"B"}`}}},
		"windows line ends":              {in: "---\r\nkind: A\r\napiVersion: v1\r\n---\r\n", want: []doc{{1, 2, "kind: A\r\napiVersion: v1\r\n", jsonA}}},
		"old line ends":                  {in: "---\rkind: A\rapiVersion: v1\r---\r" + b, want: []doc{{1, 2, "kind: A\rapiVersion: v1\r", jsonA}, {2, 5, b, `{"apiVersion":"v1","kind":"B"}`}}},
		"other line ends of YAML":        {in: "kind: A\u0085apiVersion: v1\u2028---\u2029" + b, want: []doc{{1, 1, "kind: A\u0085apiVersion: v1\u2028", jsonA}, {2, 4, b, `{"apiVersion":"v1","kind":"B"}`}}},
		"document ends":                  {in: a + "...\n" + b + "...\n", want: []doc{{1, 1, a, jsonA}, {2, 4, b, `{"apiVersion":"v1","kind":"B"}`}}},
		"a document of comments":         {in: "# licence\n---\n" + a, want: []doc{{1, 1, "# licence\n", ""}, {2, 3, a, jsonA}}},
		"a comment beside the separator": {in: "--- # first\n" + a, want: []doc{{1, 1, "# first\n" + a, jsonA}}},
		"content beside the separator":   {in: "--- {apiVersion: v1, kind: A}\n", want: []doc{{1, 1, "--- {apiVersion: v1, kind: A}\n", jsonA}}},
		"three dashes inside a text":     {in: a + "note: |\n  ---\n  x\n", want: []doc{{1, 1, a + "note: |\n  ---\n  x\n", `{"apiVersion":"v1","kind":"A","note":"---\nx\n"}`}}},
		"dashes that separate nothing":   {in: a + "---x: 1\n", want: []doc{{1, 1, a + "---x: 1\n", `{"---x":1,"apiVersion":"v1","kind":"A"}`}}},
		"YAML 1.1 truth values":          {in: a + "on: yes\n", want: []doc{{1, 1, a + "on: yes\n", `{"apiVersion":"v1","kind":"A","true":true}`}}},
		"JSON":                           {in: "\n " + jsonA + "\n", want: []doc{{1, 2, jsonA, jsonA}}},
		"JSON in a row":                  {in: jsonA + "\n" + jsonA, want: []doc{{1, 1, jsonA, jsonA}, {2, 2, jsonA, jsonA}}},
		"JSON keeps its integers":        {in: `{"apiVersion":"v1","kind":"A","n":12345678901234567890123}`, want: []doc{{1, 1, `{"apiVersion":"v1","kind":"A","n":12345678901234567890123}`, `{"apiVersion":"v1","kind":"A","n":12345678901234567890123}`}}},
		"YAML that begins like JSON":     {in: "{apiVersion: v1, kind: A}\n", want: []doc{{1, 1, "{apiVersion: v1, kind: A}\n", jsonA}}},
		"JSON between separators":        {in: jsonA + "\n---\n" + jsonA + "\n", want: []doc{{1, 1, jsonA + "\n", jsonA}, {2, 3, jsonA + "\n", jsonA}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			docs, err := manifest.Parse("f.yaml", []byte(test.in))
			if err != nil {
				t.Fatal(err)
			}
			var got []doc
			for _, d := range docs {
				got = append(got, doc{d.Number, d.Line, string(d.Text), string(d.JSON)})
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	const a = "apiVersion: v1\nkind: A\n"
	const jsonA = `{"apiVersion":"v1","kind":"A"}`
	tests := map[string]struct {
		file, in string
		want     []string
	}{
		"a key twice":                {in: a + "---\n" + a + "x: 1\nkind: B\nx: 2\n", want: []string{`f.yaml:7: document 2: key "kind" is already set in this object`, `f.yaml:8: document 2: key "x" is already set in this object`}},
		"a key twice in JSON":        {file: "f.json", in: jsonA + "\n{\"apiVersion\":\"v1\",\"kind\":\"A\",\n\"a\":[{\"b\":1,\n\"b\":2}]}", want: []string{`f.json:4: document 2: key "b" is already set in this object`}},
		"a wrong indentation":        {in: a + "---\n# c\n" + a + "m:\n  - x\n y: 1\n", want: []string{"f.yaml:9: document 2: not YAML: did not find expected key"}},
		"a mapping inside a scalar":  {in: a + "m: 1\n n: 2\n", want: []string{"f.yaml:4: document 1: not YAML: mapping values are not allowed in this context"}},
		"a tab":                      {in: "\tx: 1\n", want: []string{"f.yaml:1: document 1: not YAML: found character that cannot start any token"}},
		"quotes that never end":      {in: a + "x: \"y\nz: 1\n", want: []string{"f.yaml:3: document 1: not YAML: found unexpected end of stream"}},
		"an error behind long flows": {in: a + "x: [1,\n2,\n3,\n4,\n5,\n6]\nz: ]\n", want: []string{"f.yaml:9: document 1: not YAML: did not find expected node content"}},
		"an unknown anchor":          {in: a + "x: *y\n", want: []string{"f.yaml:3: document 1: not YAML: unknown anchor 'y' referenced"}},
		"infinity":                   {in: a + "x: .inf\n", want: []string{"f.yaml:3: document 1: not YAML: unsupported value: +Inf"}},
		"every document's error":     {in: "x: [\n---\n" + a + "---\ny: ]\n", want: []string{"f.yaml:1: document 1: not YAML: did not find expected node content", "f.yaml:6: document 3: not YAML: did not find expected node content"}},
		"not UTF-8":                  {in: "a: \xff\n", want: []string{"f.yaml:1: document 1: not a text in UTF-8"}},
		"a list":                     {in: "\n# c\n- a\n", want: []string{"f.yaml:3: document 1: not an object: a manifest is a mapping with apiVersion and kind"}},
		"a scalar":                   {in: "hello", want: []string{"f.yaml:1: document 1: not an object: a manifest is a mapping with apiVersion and kind"}},
		"no kind":                    {in: "apiVersion: v1\nKind: A\n", want: []string{"f.yaml:1: document 1: kind is missing"}},
		"no version":                 {in: "kind: A\n", want: []string{"f.yaml:1: document 1: apiVersion is missing"}},
		"a kind of the wrong type":   {in: "apiVersion: 1\nkind: A\n", want: []string{"f.yaml:1: document 1: apiVersion is not a string"}},
		"an item without a kind":     {in: "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1}]\n", want: []string{"f.yaml:1: document 1: items[0]: kind is missing"}},
		"JSON cut short":             {file: "f.json", in: jsonA + "\n{\"apiVersion\":", want: []string{"f.json:2: document 2: not JSON: it ends in the middle"}},
		"JSON with a comma too many": {file: "f.json", in: "{\"apiVersion\":\"v1\",\n\"kind\":\"A\",\n}", want: []string{"f.json:3: document 1: not JSON: invalid character '}' looking for beginning of object key string"}},
		"YAML in a JSON file":        {file: "f.json", in: a, want: []string{"f.json:1: document 1: not JSON: invalid character 'a' looking for beginning of value"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := test.file
			if file == "" {
				file = "f.yaml"
			}
			_, err := manifest.Parse(file, []byte(test.in))
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(test.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			var syntax *manifest.SyntaxError
			if !errors.As(err, &syntax) {
				t.Errorf("%T is not a SyntaxError", err)
			}
		})
	}
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func object(kind string) string { return "apiVersion: v1\nkind: " + kind + "\n" }

func TestReadFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "b.yml"), object("B"))
	write(t, filepath.Join(dir, "a.yaml"), object("A"))
	write(t, filepath.Join(dir, "c.json"), `{"apiVersion":"v1","kind":"C"}`)
	write(t, filepath.Join(dir, "README.md"), "# no manifest")
	write(t, filepath.Join(dir, "inside", "d.yaml"), object("D"))
	docs, err := manifest.Read([]string{dir, "-"}, strings.NewReader(object("E")))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range docs {
		got = append(got, filepath.Base(d.File))
	}
	if diff := cmp.Diff([]string{"a.yaml", "b.yml", "c.json", "stdin"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// zeroes never end, as /dev/zero does not.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad, empty := write(t, filepath.Join(dir, "bad.yaml"), "a: ]"), filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		paths []string
		stdin io.Reader
		want  []string
	}{
		"all at once":          {paths: []string{"absent.yaml", bad, empty}, want: []string{"absent.yaml", bad + ":1: document 1: not YAML", "no file *.yaml, *.yml, *.json in this folder"}},
		"stdin twice":          {paths: []string{"-", "-"}, stdin: strings.NewReader(""), want: []string{"can be read only once"}},
		"stdin without an end": {paths: []string{"-"}, stdin: zeroes{}, want: []string{"stdin: the input is larger than 32 MiB"}},
		"stdin that breaks":    {paths: []string{"-"}, stdin: iotest.ErrReader(errors.New("it broke")), want: []string{"stdin: it broke"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			docs, err := manifest.Read(test.paths, test.stdin)
			if err == nil || docs != nil {
				t.Fatalf("got %d documents, error %v", len(docs), err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in:\n%v", want, err)
				}
			}
		})
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	in := "# one\n" + object("A") + "---\n--- {apiVersion: v1, kind: B}\n---\n# nothing\n---\n" + strings.TrimSuffix(object("C"), "\n")
	docs, err := manifest.Parse("f.yaml", []byte(in))
	if err != nil {
		t.Fatal(err)
	}
	more, err := manifest.Parse("f.json", []byte("{\t\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"apiVersion\":\"v1\",\"kind\":\"D<\"}]}"))
	if err != nil {
		t.Fatal(err)
	}
	docs = append(docs, more...)
	var got bytes.Buffer
	if err := manifest.WriteYAML(&got, docs); err != nil {
		t.Fatal(err)
	}
	want := "# one\n" + object("A") + "--- {apiVersion: v1, kind: B}\n---\n# nothing\n---\n" + object("C") +
		"---\napiVersion: v1\nitems:\n- apiVersion: v1\n  kind: D<\nkind: List\n"
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("YAML (-want +got)\n%s", diff)
	}
	got.Reset()
	if err := manifest.WriteJSON(&got, docs); err != nil {
		t.Fatal(err)
	}
	var list struct{ Items []struct{ Kind string } }
	if err := json.Unmarshal(got.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, i := range list.Items {
		kinds = append(kinds, i.Kind)
	}
	if diff := cmp.Diff([]string{"A", "B", "C", "D<"}, kinds); diff != "" {
		t.Errorf("JSON (-want +got)\n%s", diff)
	}
}
