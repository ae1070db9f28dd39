package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Annotate returns the document with annotations set on its object, or on items[index] of a List; index is -1 for what is
// no List. Everything else stays as it was written: comments, order, quotes and indentation.
//
// Whatever way the text was changed, it is read again and compared: the result is the old object with those annotations,
// or there is an error. Where a change in place would not be that, because an alias repeats the annotations elsewhere for
// example, the document is written anew from its nodes; then the indentation changes, and aliases may go.
func (d Document) Annotate(index int, annotations map[string]string) (Document, error) {
	where := d.Where()
	if index >= 0 {
		where = list{}.where(where, index)
	}
	c, err := d.change(index, annotations)
	if err != nil {
		return d, fmt.Errorf("%s: %w", where, err)
	}
	if len(c.set) == 0 {
		return d, nil
	}
	ways := []func(Document) ([]byte, error){c.edit, c.reencode, c.reencodeInlined}
	if !d.YAML {
		ways = []func(Document) ([]byte, error){c.edit, c.encodeJSON}
	}
	for _, way := range ways {
		var text []byte
		if text, err = way(d); err != nil {
			continue
		}
		var out Document
		if out, err = d.rewritten(text, c.want); err == nil {
			return out, nil
		}
	}
	// The last way is the one that should have worked.
	return d, fmt.Errorf("%s: cannot write the annotations into this document: %w", where, err)
}

// change is what Annotate has to do.
type change struct {
	index int
	// set are the annotations that are not there yet with their values.
	set map[string]string
	// had are those of them that are there with another value.
	had map[string]bool
	// want is the document's content afterwards.
	want any
}

// keys returns the annotations to set, in the order in which they are added.
func (c change) keys() []string { return slices.Sorted(maps.Keys(c.set)) }

func (d Document) change(index int, annotations map[string]string) (change, error) {
	if d.JSON == nil {
		return change{}, errors.New("a document without content has no annotations")
	}
	want, err := decodeNumbers(d.JSON)
	if err != nil {
		return change{}, err
	}
	object, err := objectIn(want, index)
	if err != nil {
		return change{}, err
	}
	for _, name := range annotationsPath {
		child, ok := object[name].(map[string]any)
		if !ok {
			if object[name] != nil {
				return change{}, fmt.Errorf("%s is not a mapping", name)
			}
			child = map[string]any{}
			object[name] = child
		}
		object = child
	}
	set, had := map[string]string{}, map[string]bool{}
	for key, value := range annotations {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return change{}, fmt.Errorf("the annotation %q is not a text in UTF-8", key)
		}
		old, has := object[key]
		if old != any(value) {
			set[key], had[key] = value, has
			object[key] = value
		}
	}
	return change{index, set, had, want}, nil
}

// annotationsPath is where an object has its annotations.
var annotationsPath = []string{"metadata", "annotations"}

// objectIn finds the object to annotate in a document's content.
func objectIn(content any, index int) (map[string]any, error) {
	object, ok := content.(map[string]any)
	if !ok {
		return nil, errors.New("not an object")
	}
	items, isList := object["items"].([]any)
	isList = isList && object["apiVersion"] == "v1" && object["kind"] == "List"
	switch {
	case !isList && index < 0:
		return object, nil
	case !isList:
		return nil, errors.New("not a List")
	case index < 0:
		return nil, errors.New("a List has no annotations; they are its items'")
	case index >= len(items):
		return nil, fmt.Errorf("the List has %d items", len(items))
	}
	if object, ok = items[index].(map[string]any); !ok {
		return nil, errors.New("not an object")
	}
	return object, nil
}

// rewritten is the document with another text, if that is one document with the content wanted.
func (d Document) rewritten(text []byte, want any) (Document, error) {
	raw, err := d.readAgain(text)
	if err != nil {
		return d, err
	}
	got, err := decodeNumbers(raw)
	if err != nil {
		return d, err
	}
	if !reflect.DeepEqual(got, want) {
		return d, errors.New("something else would change too")
	}
	d.Text, d.JSON = text, raw
	return d, nil
}

func (d Document) readAgain(text []byte) ([]byte, error) {
	if d.YAML {
		if len(split(text)) != 1 {
			return nil, errors.New("not one document any more")
		}
		return toJSON(text)
	}
	docs, err := parseJSON(d.File, text)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 || !bytes.Equal(docs[0].Text, text) {
		return nil, errors.New("not one document any more")
	}
	return docs[0].JSON, nil
}

// decodeNumbers reads JSON and keeps numbers as they are written, so that they can be compared.
func decodeNumbers(raw []byte) (any, error) {
	var v any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	err := dec.Decode(&v)
	return v, err
}

// encodeJSON writes the document anew as JSON, in lines if it had lines.
func (c change) encodeJSON(d Document) ([]byte, error) {
	raw, err := encode(c.want)
	if err != nil || !bytes.Contains(d.Text, []byte("\n")) {
		return raw, err
	}
	var out bytes.Buffer
	err = json.Indent(&out, raw, "", "  ")
	return out.Bytes(), err
}

// reencode writes the document anew from its nodes.
func (c change) reencode(d Document) ([]byte, error) {
	doc, err := parseNodes(d.Text)
	if err != nil {
		return nil, err
	}
	return c.write(d, doc)
}

// reencodeInlined is reencode with every alias replaced by what it stands for.
func (c change) reencodeInlined(d Document) ([]byte, error) {
	doc, err := parseNodes(d.Text)
	if err != nil {
		return nil, err
	}
	left := maxInlined
	if doc = inlined(doc, &left); left < 0 {
		return nil, errors.New("aliases make the document too large")
	}
	return c.write(d, doc)
}

func (c change) write(d Document, doc *yaml.Node) ([]byte, error) {
	at := objectNode(doc, c.index)
	for _, name := range annotationsPath {
		if at = mappingAt(at, name); at == nil {
			return nil, fmt.Errorf("%s is not a mapping of its own", name)
		}
	}
	for _, key := range c.keys() {
		value := stringNode(c.set[key])
		if old := field(at, key); old != nil {
			value.LineComment = old.LineComment
			*old = *value
		} else if c.had[key] {
			return nil, fmt.Errorf("the key %s is there, but written in another way", key)
		} else {
			at.Content = append(at.Content, stringNode(key), value)
		}
	}
	var out bytes.Buffer
	// A marker that stood beside the content belonged to the text.
	first, _ := cutLine(d.Text)
	if marker, _ := cutMarker(first); marker == "---" {
		out.WriteString("---\n")
	}
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
		return nil, err
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(out.Bytes(), []byte("\n"), []byte(lineBreak(d.Text))), nil
}

// parseNodes reads the nodes of a document. That they have been read as YAML 1.2, where yes is a string, changes neither
// where they stand nor how they are written.
func parseNodes(text []byte) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, errors.New("no document")
	}
	return &doc, nil
}

// objectNode finds the object to annotate, and nil where it is not plain to see.
func objectNode(doc *yaml.Node, index int) *yaml.Node {
	root := doc.Content[0]
	if index < 0 {
		return root
	}
	items := field(root, "items")
	if items == nil || items.Kind != yaml.SequenceNode || index >= len(items.Content) {
		return nil
	}
	return items.Content[index]
}

// field returns the value of a mapping's key; nil if it has none.
func field(m *yaml.Node, name string) *yaml.Node {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if k := m.Content[i]; k.Kind == yaml.ScalarNode && k.Value == name {
			return m.Content[i+1]
		}
	}
	return nil
}

// mappingAt returns the mapping that is the value of a key, and makes it if there is none; nil if that cannot be done.
func mappingAt(m *yaml.Node, name string) *yaml.Node {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil
	}
	child := field(m, name)
	switch {
	case child == nil:
		child = &yaml.Node{Kind: yaml.MappingNode}
		m.Content = append(m.Content, stringNode(name), child)
	case isNull(child):
		*child = yaml.Node{Kind: yaml.MappingNode, HeadComment: child.HeadComment, FootComment: child.FootComment}
	case child.Kind != yaml.MappingNode:
		return nil
	}
	return child
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func stringNode(text string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if !isPlain(text) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// maxInlined bounds the nodes that aliases may become: a few lines of YAML can stand for billions.
const maxInlined = 1 << 20

// inlined copies a node and replaces aliases and merge keys in it by what they stand for, up to as many nodes as are left.
func inlined(n *yaml.Node, left *int) *yaml.Node {
	out := *n
	if n.Kind == yaml.AliasNode {
		out = *n.Alias
		out.HeadComment, out.LineComment, out.FootComment = n.HeadComment, n.LineComment, n.FootComment
		n = n.Alias
	}
	out.Anchor, out.Content = "", nil
	for _, child := range n.Content {
		if *left--; *left < 0 {
			break
		}
		out.Content = append(out.Content, inlined(child, left))
	}
	if out.Kind == yaml.MappingNode && *left >= 0 {
		out.Content = merged(&out)
	}
	return &out
}

// merged returns a mapping's keys and values with those that merge keys bring in.
func merged(m *yaml.Node) []*yaml.Node {
	var content []*yaml.Node
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		if key.ShortTag() != "!!merge" {
			content = append(content, key, value)
			continue
		}
		sources := []*yaml.Node{value}
		if value.Kind == yaml.SequenceNode {
			sources = value.Content
		}
		for _, s := range sources {
			content = append(content, s.Content...)
		}
	}
	return content
}

// Splice puts the documents of one file, some of them annotated, back into it, and leaves everything else of it as it is:
// separators, line ends and the documents that are not given. File is what they were parsed from; they must be in its
// order. What is returned has been read again, and holds what the documents do.
func Splice(file []byte, docs []Document) ([]byte, error) {
	data := bytes.TrimPrefix(file, []byte(byteOrderMark))
	out := bytes.NewBuffer(slices.Clone(file[:len(file)-len(data)]))
	at, changed := 0, false
	for _, d := range docs {
		if d.start < at || d.end < d.start || d.end > len(data) {
			return nil, fmt.Errorf("%s: not of this file, or not in its order", d.Where())
		}
		out.Write(data[at:d.start])
		old := data[d.start:d.end]
		// Beside a separator there was a comment, or content in flow style. Something else needs a line of its own.
		if d.YAML && beside(data[:d.start]) && !bytes.Equal(firstLine(d.Text), firstLine(old)) {
			out.WriteString(lineBreak(data))
		}
		out.Write(d.Text)
		at, changed = d.end, changed || !bytes.Equal(d.Text, old)
	}
	out.Write(data[at:])
	if !changed {
		return out.Bytes(), nil
	}
	if err := checkSplice(file, out.Bytes(), docs); err != nil {
		return nil, fmt.Errorf("%s: cannot put the documents together again: %w", docs[0].File, err)
	}
	return out.Bytes(), nil
}

// beside tells whether what follows a text does not begin a line.
func beside(before []byte) bool {
	return len(before) > 0 && !slices.ContainsFunc(breaks, func(b string) bool { return bytes.HasSuffix(before, []byte(b)) })
}

func firstLine(text []byte) []byte {
	line, _ := cutLine(text)
	return line
}

// checkSplice compares what is in the new file with what should be: the documents given, and the others as they were.
func checkSplice(before, after []byte, docs []Document) error {
	old, err := Parse(docs[0].File, before)
	if err != nil {
		return err
	}
	got, err := Parse(docs[0].File, after)
	if err != nil {
		return err
	}
	if len(got) != len(old) {
		return fmt.Errorf("there were %d, and would be %d", len(old), len(got))
	}
	for i, want := range old {
		if len(docs) > 0 && docs[0].start == want.start {
			want, docs = docs[0], docs[1:]
		}
		a, errA := decodeNumbers(want.JSON)
		b, errB := decodeNumbers(got[i].JSON)
		// Documents of comments only have no JSON: both fail alike.
		if !reflect.DeepEqual(a, b) || (errA == nil) != (errB == nil) {
			return fmt.Errorf("document %d would be another", want.Number)
		}
	}
	return nil
}
