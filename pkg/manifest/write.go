package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"sigs.k8s.io/yaml"
)

// WriteYAML writes documents as a YAML stream. Those that are YAML stand in it as they were written.
func WriteYAML(w io.Writer, docs []Document) error {
	var out bytes.Buffer
	for _, d := range docs {
		text := d.Text
		if !d.YAML {
			var err error
			if text, err = yaml.JSONToYAML(d.JSON); err != nil {
				return fmt.Errorf("%s: %w", d.Where(), err)
			}
		}
		// Content that stands beside its own separator brings that along.
		if out.Len() > 0 && !bytes.HasPrefix(text, []byte("---")) {
			out.WriteString("---\n")
		}
		out.Write(text)
		if !bytes.HasSuffix(text, []byte("\n")) {
			out.WriteByte('\n')
		}
	}
	_, err := w.Write(out.Bytes())
	return err
}

// WriteJSON writes documents as indented JSON: one object as it is, several, or none, as a v1 List. Lists among several
// are taken apart, because kubectl makes flat ones too.
func WriteJSON(w io.Writer, docs []Document) error {
	var objects []json.RawMessage
	for _, d := range docs {
		if d.JSON != nil {
			objects = append(objects, d.JSON)
		}
	}
	var whole json.RawMessage
	if len(objects) == 1 {
		whole = objects[0]
	} else {
		items := []json.RawMessage{}
		for _, o := range objects {
			if l, ok := asList(o); ok {
				items = append(items, l.items...)
			} else {
				items = append(items, o)
			}
		}
		var err error
		whole, err = encode(map[string]any{"apiVersion": "v1", "kind": "List", "metadata": map[string]any{}, "items": items})
		if err != nil {
			return err
		}
	}
	var out bytes.Buffer
	if err := json.Indent(&out, whole, "", "    "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := w.Write(out.Bytes())
	return err
}

// encode writes JSON without escaping <, > and &, which manifests are full of.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}
