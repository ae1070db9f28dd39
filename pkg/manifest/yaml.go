package manifest

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	yamlv2 "go.yaml.in/yaml/v2"
	"sigs.k8s.io/yaml"
)

// parseYAML reads the documents of a YAML file the way kubectl does: as YAML 1.1, where yes is true.
func parseYAML(file string, data []byte) ([]Document, error) {
	if !utf8.Valid(data) {
		return nil, &SyntaxError{File: file, Number: 1, Line: 1, Reason: "not a text in UTF-8"}
	}
	var docs []Document
	var errs []error
	for _, d := range split(data) {
		d.File, d.YAML = file, true
		raw, err := toJSON(d.Text)
		if err != nil {
			errs = append(errs, yamlErrors(d, err)...)
			continue
		}
		if !bytes.Equal(raw, []byte("null")) {
			if reason := notAnObject(raw); reason != "" {
				errs = append(errs, &SyntaxError{File: file, Number: d.Number, Line: d.Line + blankLines(d.Text), Reason: reason})
				continue
			}
			d.JSON = raw
		}
		docs = append(docs, d)
	}
	return docs, errors.Join(errs...)
}

// toJSON reads a text of one document. The parser leaves alone what follows the first one, be it a brace too many.
func toJSON(text []byte) ([]byte, error) {
	raw, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	dec, all := yamlv2.NewDecoder(bytes.NewReader(text)), 0
	for ; err == nil; all++ {
		err = dec.Decode(new(any))
	}
	switch {
	case !errors.Is(err, io.EOF):
		return nil, err
	case all > 2: // with the end
		return nil, errors.New("text after the end of the document")
	}
	return raw, nil
}

// split cuts a YAML stream into documents. The markers --- and ... at the start of a line end a document wherever they
// stand, inside quotes and block scalars too, so looking at lines is enough. It must find every one that the parser
// would, which reads the first document of a text and drops the others without a word.
func split(data []byte) []Document {
	var docs []Document
	now := Document{Number: 1, Line: 1}
	start, line := 0, 1
	flush := func(end, next, nextLine int) {
		now.Text, now.start, now.end = data[start:end], start, end
		if len(bytes.TrimSpace(now.Text)) > 0 {
			docs = append(docs, now)
			now.Number++
		}
		start, now.Line = next, nextLine
	}
	for at := 0; at < len(data); line++ {
		text, next := cutLine(data[at:])
		next += at
		marker, rest := cutMarker(text)
		switch {
		case marker == "":
		case rest == "" || rest[0] == '#' && marker == "...":
			flush(at, next, line+1)
		case rest[0] == '#':
			// A comment beside the separator belongs to the document that it begins.
			flush(at, at+bytes.IndexByte(text, '#'), line)
		case marker == "---":
			// Content beside the separator: the marker stays with it, for `--- |` means another thing than `|`.
			flush(at, at, line)
		default:
			flush(at, at+len(marker), line)
		}
		at = next
	}
	flush(len(data), len(data), line)
	return docs
}

// cutMarker returns the document marker that a line begins with, if any, and the text behind it.
func cutMarker(line []byte) (marker, rest string) {
	for _, m := range []string{"---", "..."} {
		after, ok := strings.CutPrefix(string(line[:min(len(line), len(m)+1)]), m)
		if ok && strings.Trim(after, " \t") == "" {
			return m, strings.TrimSpace(string(line[len(m):]))
		}
	}
	return "", ""
}

// breaks are the line breaks of YAML 1.1.
var breaks = []string{"\r\n", "\n", "\r", "\u0085", "\u2028", "\u2029"}

// cutLine returns the first line without its break, and where the next one begins.
func cutLine(data []byte) (line []byte, next int) {
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '\n', '\r', 0xc2, 0xe2: // the first bytes of the breaks
			for _, b := range breaks {
				if bytes.HasPrefix(data[i:], []byte(b)) {
					return data[:i], i + len(b)
				}
			}
		}
	}
	return data, len(data)
}

// blankLines counts the lines before a document's content.
func blankLines(text []byte) int {
	n := 0
	for len(text) > 0 {
		line, next := cutLine(text)
		if l := bytes.TrimSpace(line); len(l) > 0 && l[0] != '#' {
			return n
		}
		n++
		text = text[next:]
	}
	return 0
}

var lineOf = regexp.MustCompile(`^(?:yaml: )?line ([0-9]+): `)

// yamlErrors turns the parser's error into ours, with the line in the file.
func yamlErrors(d Document, err error) []error {
	fail := func(line int, reason string) error {
		return &SyntaxError{File: d.File, Number: d.Number, Line: d.Line + line - 1, Reason: reason}
	}
	var several *yamlv2.TypeError
	if errors.As(err, &several) {
		out := make([]error, 0, len(several.Errors))
		for _, text := range several.Errors {
			line := 1
			if m := lineOf.FindStringSubmatch(text); m != nil {
				line, _ = strconv.Atoi(m[1])
				text = text[len(m[0]):]
			}
			out = append(out, fail(line, strings.Replace(text, "already set in map", "is already set in this object", 1)))
		}
		return out
	}
	reason := lineOf.ReplaceAllString(err.Error(), "")
	reason = strings.TrimPrefix(strings.TrimPrefix(reason, "yaml: "), "json: ")
	return []error{fail(badLine(d.Text), "not YAML: "+reason)}
}

// lookAhead is how many lines badLine believes a quoted text or a flow collection to have at most.
const lookAhead = 40

// badLine finds the line that makes a document malformed: the one after its longest beginning that is well-formed. What
// the parser says itself is often the line before, or the one where the surrounding mapping begins, or nothing.
//
// Beginnings are tried by halves. One that ends inside quotes or brackets fails although the text is right, so after
// each hit a longer one that succeeds is looked for.
func badLine(text []byte) int {
	ends := []int{0}
	for at := 0; at < len(text); {
		_, n := cutLine(text[at:])
		at += n
		ends = append(ends, at)
	}
	good := func(lines int) bool {
		_, err := toJSON(text[:ends[lines]])
		return err == nil
	}
	low := 0
	for {
		high := len(ends) - 1
		for high-low > 1 {
			if mid := (low + high) / 2; good(mid) {
				low = mid
			} else {
				high = mid
			}
		}
		next := low
		for n := low + 2; n < len(ends)-1 && n <= low+lookAhead; n++ {
			if good(n) {
				next = n
			}
		}
		if next == low {
			return low + 1
		}
		low = next
	}
}
