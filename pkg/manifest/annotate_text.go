package manifest

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	yamlv2 "go.yaml.in/yaml/v2"
	"go.yaml.in/yaml/v3"
)

// errNotInPlace is why a document is written anew.
var errNotInPlace = errors.New("cannot be changed in place")

// edit sets the annotations in the document's own text, one after the other.
func (c change) edit(d Document) ([]byte, error) {
	text := d.Text
	for _, key := range c.keys() {
		doc, err := parseNodes(text)
		if err != nil {
			return nil, err
		}
		object := objectNode(doc, c.index)
		// A key that is written as a number, or comes from a merge key, cannot be found; another one must not stand beside it.
		if c.had[key] && field(field(field(object, annotationsPath[0]), annotationsPath[1]), key) == nil {
			return nil, errNotInPlace
		}
		var ok bool
		if text, ok = newEditor(text, !d.YAML).set(object, append(slices.Clone(annotationsPath), key), c.set[key]); !ok {
			return nil, errNotInPlace
		}
	}
	return text, nil
}

// editor makes the smallest change to a text of YAML that sets one value. It looks at the ways in which people write
// manifests, and trusts that whoever uses it reads the result again; so where it is in doubt it may guess.
type editor struct {
	text []byte
	// lines are the offsets at which the lines begin.
	lines []int
	eol   string
	// quoted makes every string a quoted one, as in JSON.
	quoted bool
}

func newEditor(text []byte, isJSON bool) *editor {
	e := &editor{text: text, lines: []int{0}, eol: lineBreak(text), quoted: isJSON}
	for at := 0; at < len(text); {
		line, n := cutLine(text[at:])
		at += n
		if n > len(line) {
			e.lines = append(e.lines, at)
		}
	}
	return e
}

// lineBreak is the one that a text uses first.
func lineBreak(text []byte) string {
	line, next := cutLine(text)
	if next == len(line) {
		return "\n"
	}
	return string(text[len(line):next])
}

// set sets the value at a path of keys in an object.
func (e *editor) set(object *yaml.Node, path []string, value string) ([]byte, bool) {
	if object == nil || object.Kind != yaml.MappingNode {
		return nil, false
	}
	at, step := object, 2
	for i, name := range path {
		child := field(at, name)
		switch {
		case child == nil:
			return e.add(at, path[i:], value, step)
		case i == len(path)-1:
			return e.replace(at, child, value)
		case isNull(child):
			return e.fill(at, child, path[i+1:], value, step)
		case child.Kind == yaml.AliasNode:
			return e.override(child, path[i+1:], value)
		case child.Kind != yaml.MappingNode:
			return nil, false
		}
		if n := keyIndent(child) - keyIndent(at); !isFlow(at) && !isFlow(child) && n > 0 {
			step = n
		}
		at = child
	}
	return nil, false
}

// add adds a key to a mapping, with the mappings below it that the path names.
func (e *editor) add(m *yaml.Node, path []string, value string, step int) ([]byte, bool) {
	var like yaml.Style
	if len(path) == 1 {
		like = styleOf(m)
	}
	if isFlow(m) {
		return e.addFlow(m, path, value, like)
	}
	if len(m.Content) == 0 {
		return nil, false
	}
	lines := e.block(keyIndent(m), step, path, value, like)
	if end, ok := e.end(m, 0); ok {
		return e.insert(e.lineEnd(end), e.eol+lines), true
	}
	// Behind a value whose end is not plain to see: put it before the first key, if that begins its line.
	first, ok := e.offset(m.Content[0])
	if !ok || !e.beginsLine(first) {
		return nil, false
	}
	return e.insert(e.lineStart(first), lines+e.eol), true
}

// styleOf is how a mapping's values are written where quotes are a matter of taste: the last one that needs none decides.
func styleOf(m *yaml.Node) yaml.Style {
	for i := len(m.Content) - 1; i > 0; i -= 2 {
		if isPlain(m.Content[i].Value) {
			return m.Content[i].Style
		}
	}
	return 0
}

func (e *editor) addFlow(m *yaml.Node, path []string, value string, like yaml.Style) ([]byte, bool) {
	open, ok := e.offset(m)
	if !ok {
		return nil, false
	}
	if open = e.skipProperties(open); !e.has(open, '{') {
		return nil, false
	}
	n := len(m.Content)
	if n == 0 {
		return e.insert(open+1, e.flow(path, value, like)), true
	}
	e.quoted = e.quoted || m.Content[n-2].Style&yaml.DoubleQuotedStyle != 0
	entry := e.flow(path, value, like)
	key, ok := e.offset(m.Content[n-2])
	end, endOK := e.end(m.Content[n-1], -1)
	if !ok || !endOK {
		return e.insert(open+1, entry+", "), true
	}
	rest := e.text[end:e.lineEnd(end)]
	if e.beginsLine(key) && (isBlank(rest) || isBlank(rest[:1]) && bytes.TrimLeft(rest, " \t")[0] == '#') {
		// One entry a line.
		indent := string(e.text[e.lineStart(key):key])
		return e.splice(end, end+len(rest), ","+string(rest)+e.eol+indent+entry), true
	}
	return e.insert(end, ", "+entry), true
}

// replace gives a key another value.
func (e *editor) replace(m, old *yaml.Node, value string) ([]byte, bool) {
	at, ok := e.offset(old)
	end, endOK := e.end(old, keyIndent(m))
	if !ok || !endOK {
		return nil, false
	}
	text := e.scalar(value, old.Style)
	if block, ok := e.literal(value, keyIndent(m)+2); ok && old.Style&yaml.LiteralStyle != 0 {
		text = block
	}
	if at == end {
		text = e.spaceBefore(at) + text
	}
	return e.splice(at, end, text), true
}

// literal writes lines as they stand, behind a bar. It is false for what cannot be written like that without more ado.
func (e *editor) literal(text string, indent int) (string, bool) {
	header, body := "|-", text
	if trimmed, ok := strings.CutSuffix(text, "\n"); ok {
		header, body = "|", trimmed
	}
	lines := strings.Split(body, "\n")
	if len(lines) < 2 || strings.Trim(lines[0], " \t") != lines[0] || lines[0] == "" || lines[len(lines)-1] == "" {
		return "", false
	}
	for i, l := range lines {
		if !isPrintable(l) {
			return "", false
		}
		if l != "" {
			lines[i] = strings.Repeat(" ", indent) + l
		}
	}
	return header + e.eol + strings.Join(lines, e.eol), true
}

// fill puts a mapping where there was nothing, or null.
func (e *editor) fill(m, null *yaml.Node, path []string, value string, step int) ([]byte, bool) {
	at, ok := e.offset(null)
	end, endOK := e.end(null, keyIndent(m))
	switch {
	case !ok || !endOK:
		return nil, false
	case at < end:
		return e.splice(at, end, "{"+e.flow(path, value, 0)+"}"), true
	case isFlow(m):
		return e.insert(at, e.spaceBefore(at)+"{"+e.flow(path, value, 0)+"}"), true
	}
	return e.insert(e.lineEnd(at), e.eol+e.block(keyIndent(m)+step, step, path, value, 0)), true
}

// override replaces an alias of a mapping by a mapping that merges it. It is not allowed to have the same key.
func (e *editor) override(alias *yaml.Node, path []string, value string) ([]byte, bool) {
	at, ok := e.offset(alias)
	end, endOK := e.end(alias, -1)
	if !ok || !endOK {
		return nil, false
	}
	return e.splice(at, end, "{<<: "+string(e.text[at:end])+", "+e.flow(path, value, 0)+"}"), true
}

// block writes nested keys and a value as lines, without the last line break.
func (e *editor) block(indent, step int, path []string, value string, like yaml.Style) string {
	var lines []string
	for i, name := range path {
		lines = append(lines, strings.Repeat(" ", indent+i*step)+e.scalar(name, 0)+":")
	}
	return strings.Join(lines, e.eol) + " " + e.scalar(value, like)
}

// flow writes nested keys and a value in flow style, without the outer braces.
func (e *editor) flow(path []string, value string, like yaml.Style) string {
	var keys []string
	for _, name := range path {
		keys = append(keys, e.scalar(name, 0)+": ")
	}
	return strings.Join(keys, "{") + e.scalar(value, like) + strings.Repeat("}", len(path)-1)
}

// scalar writes a string in the style of another one, as far as that can be done.
func (e *editor) scalar(text string, like yaml.Style) string {
	switch {
	case e.quoted || like&yaml.DoubleQuotedStyle != 0:
		return quote(text)
	case like&yaml.SingleQuotedStyle != 0 && isPrintable(text):
		return "'" + strings.ReplaceAll(text, "'", "''") + "'"
	case isPlain(text):
		return text
	}
	return quote(text)
}

// plainText is what can stand without quotes anywhere, but for what is no string then. YAML allows more.
var plainText = regexp.MustCompile(`^[A-Za-z0-9_/][A-Za-z0-9_./+%@=-]*$`)

// isPlain tells whether a text without quotes is that string, in YAML 1.1 and 1.2: not a number, a truth value, a date.
func isPlain(text string) bool {
	if !plainText.MatchString(text) {
		return false
	}
	var old, now any
	return yamlv2.Unmarshal([]byte(text), &old) == nil && old == text &&
		yaml.Unmarshal([]byte(text), &now) == nil && now == text
}

func isPrintable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// quote writes a string in double quotes, the same way for JSON and YAML. YAML forbids characters that JSON does not.
func quote(text string) string {
	raw, err := encode(text)
	if err != nil {
		raw = []byte(`""`) // never for a string
	}
	var out strings.Builder
	for _, r := range string(raw) {
		if r >= 0x7f && r <= 0x9f || r == 0xfeff || r == 0xfffe || r == 0xffff {
			const hex = "0123456789abcdef"
			out.Write([]byte{'\\', 'u', hex[r>>12], hex[r>>8&15], hex[r>>4&15], hex[r&15]})
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}

// end finds where a node's text ends. What it has on further lines is indented more than indent; -1 is for flow style,
// where indentation tells nothing.
func (e *editor) end(n *yaml.Node, indent int) (int, bool) {
	at, ok := e.offset(n)
	if !ok {
		return 0, false
	}
	if n.Kind == yaml.ScalarNode && n.Value == "" && n.Style&^yaml.TaggedStyle == 0 {
		return at, n.Style == 0 && n.Anchor == ""
	}
	switch n.Kind {
	case yaml.AliasNode:
		return at + len("*") + len(n.Value), true
	case yaml.ScalarNode:
		return e.scalarEnd(n, e.skipProperties(at), indent)
	case yaml.MappingNode, yaml.SequenceNode:
		if isFlow(n) {
			return e.flowEnd(n, e.skipProperties(at))
		}
		if len(n.Content) == 0 {
			return 0, false
		}
		inside := n.Column - 1 // of the dashes
		if n.Kind == yaml.MappingNode {
			inside = keyIndent(n)
		} else if !e.has(at, '-') {
			return 0, false
		}
		return e.end(n.Content[len(n.Content)-1], inside)
	}
	return 0, false
}

func (e *editor) scalarEnd(n *yaml.Node, at, indent int) (int, bool) {
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		return e.quotedEnd(at, '"')
	case n.Style&yaml.SingleQuotedStyle != 0:
		return e.quotedEnd(at, '\'')
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		header := e.text[at:e.lineEnd(at)]
		return e.indentedEnd(at, indent, bytes.HasPrefix(bytes.TrimLeft(header, "|>0123456789"), []byte("+"))), true
	case bytes.HasPrefix(e.text[at:], []byte(n.Value)):
		return at + len(n.Value), true
	case indent < 0:
		return 0, false
	}
	end := e.indentedEnd(at, indent, false)
	return end, !bytes.Contains(e.text[at:end], []byte("#"))
}

// quotedEnd finds the closing quote. In single quotes, two of them are one that is meant.
func (e *editor) quotedEnd(at int, mark byte) (int, bool) {
	if !e.has(at, mark) {
		return 0, false
	}
	for i := at + 1; i < len(e.text); i++ {
		switch {
		case mark == '"' && e.text[i] == '\\':
			i++
		case e.text[i] != mark:
		case mark == '\'' && e.has(i+1, mark):
			i++
		default:
			return i + 1, true
		}
	}
	return 0, false
}

// indentedEnd finds the end of the last line, from that of an offset on, that is indented more than indent. Blank lines
// at the end count if they are to be kept.
func (e *editor) indentedEnd(at, indent int, blanks bool) int {
	end := e.lineEnd(at)
	for next := e.nextLine(at); next < len(e.text); next = e.nextLine(next) {
		line := e.text[next:e.lineEnd(next)]
		switch {
		case isBlank(line):
			if !blanks {
				continue
			}
		case len(line)-len(bytes.TrimLeft(line, " ")) <= indent:
			return end
		}
		end = next + len(line)
	}
	return end
}

// flowEnd finds the end of a mapping in braces or a list in brackets.
func (e *editor) flowEnd(n *yaml.Node, at int) (int, bool) {
	open, shut := byte('['), byte(']')
	if n.Kind == yaml.MappingNode {
		open, shut = '{', '}'
	}
	if !e.has(at, open) {
		return 0, false
	}
	at++
	if len(n.Content) > 0 {
		var ok bool
		if at, ok = e.end(n.Content[len(n.Content)-1], -1); !ok {
			return 0, false
		}
	}
	for at < len(e.text) {
		switch e.text[at] {
		case shut:
			return at + 1, true
		case '#':
			at = e.lineEnd(at)
		case ' ', '\t', '\r', '\n', ',':
			at++
		default:
			return 0, false
		}
	}
	return 0, false
}

// offset is where a node begins in the text, its anchor and tag included.
func (e *editor) offset(n *yaml.Node) (int, bool) {
	if n.Line < 1 || n.Line > len(e.lines) {
		return 0, false
	}
	at := e.lines[n.Line-1]
	for range n.Column - 1 {
		if at >= len(e.text) {
			return 0, false
		}
		_, size := utf8.DecodeRune(e.text[at:])
		at += size
	}
	return at, true
}

// skipProperties skips anchors and tags that stand in the line before a node.
func (e *editor) skipProperties(at int) int {
	for e.has(at, '&') || e.has(at, '!') {
		for at < len(e.text) && !bytes.ContainsRune([]byte(" \t\r\n"), rune(e.text[at])) {
			at++
		}
		for e.has(at, ' ') || e.has(at, '\t') {
			at++
		}
	}
	return at
}

func (e *editor) has(at int, b byte) bool { return at < len(e.text) && e.text[at] == b }

func (e *editor) lineEnd(at int) int {
	line, _ := cutLine(e.text[at:])
	return at + len(line)
}

func (e *editor) nextLine(at int) int {
	_, n := cutLine(e.text[at:])
	return at + n
}

// lineStart is where the line of an offset begins.
func (e *editor) lineStart(at int) int {
	i, found := slices.BinarySearch(e.lines, at)
	if !found {
		i--
	}
	return e.lines[i]
}

// beginsLine tells whether only white space stands before an offset in its line.
func (e *editor) beginsLine(at int) bool { return isBlank(e.text[e.lineStart(at):at]) }

// spaceBefore is the space that a value needs to stand at an offset.
func (e *editor) spaceBefore(at int) string {
	if at > 0 && e.text[at-1] == ' ' {
		return ""
	}
	return " "
}

func (e *editor) insert(at int, text string) []byte { return e.splice(at, at, text) }

// splice replaces what is between two offsets.
func (e *editor) splice(from, to int, text string) []byte {
	return slices.Concat(e.text[:from], []byte(text), e.text[to:])
}

func isBlank(text []byte) bool { return len(bytes.Trim(text, " \t")) == 0 }

func isFlow(n *yaml.Node) bool { return n.Style&yaml.FlowStyle != 0 }

// keyIndent is how far the keys of a mapping in block style are indented.
func keyIndent(m *yaml.Node) int {
	if len(m.Content) == 0 {
		return 0
	}
	return m.Content[0].Column - 1
}
