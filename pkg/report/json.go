package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonReport and jsonFinding are what scripts rely on: fields are added, never renamed.
type jsonReport struct {
	Findings []jsonFinding `json:"findings"`
}

type jsonFinding struct {
	Code       string `json:"code"`
	Severity   string `json:"severity"`
	Object     string `json:"object"`
	Field      string `json:"field,omitempty"`
	Annotation string `json:"annotation,omitempty"`
	Message    string `json:"message"`
	Fix        string `json:"fix,omitempty"`
	File       string `json:"file"`
	Line       int    `json:"line"`
}

func writeJSON(w io.Writer, r Report, _ Options) error {
	out := jsonReport{Findings: make([]jsonFinding, len(r.Findings))}
	for i := range r.Findings {
		f := &r.Findings[i]
		out.Findings[i] = jsonFinding{f.Code, f.Severity, f.Object, f.Field, f.Annotation, f.Message, f.Fix, f.File, f.Line}
	}
	return encode(w, out)
}

// encode writes indented JSON, without the escapes of < and > that are for web pages, but with some for [isHidden]: JSON
// gets printed too, by builds and on terminals.
func encode(w io.Writer, v any) error {
	var plain, out bytes.Buffer
	enc := json.NewEncoder(&plain)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	for _, r := range strings.ReplaceAll(plain.String(), "##[", `#\u0023[`) {
		if r < utf8.RuneSelf && r != 0x7f || !isHidden(r) {
			out.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&out, `\u%04x`, unit)
		}
	}
	_, err := w.Write(out.Bytes())
	return err
}
