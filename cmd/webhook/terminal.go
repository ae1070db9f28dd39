package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/term"
)

// Colours, as the terminal is told.
const (
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	bold   = "\x1b[1m"
	plain  = "\x1b[0m"
)

// paint colours a text if it goes to a terminal whose user has nothing against colours.
func paint(w io.Writer, colour, text string) string {
	f, ok := w.(*os.File)
	if !coloured(ok && term.IsTerminal(int(f.Fd())), os.Getenv) {
		return text
	}
	return colour + text + plain
}

// coloured decides by the convention of no-color.org.
func coloured(terminal bool, env func(string) string) bool {
	return terminal && env("NO_COLOR") == "" && env("TERM") != "dumb"
}

// choice is a flag with a few values.
type choice struct {
	value   string
	allowed []string
}

func (c *choice) String() string { return c.value }

func (c *choice) Type() string { return "string" }

func (c *choice) Set(v string) error {
	if !slices.Contains(c.allowed, v) {
		return fmt.Errorf("allowed: %v", c.allowed)
	}
	c.value = v
	return nil
}

func oneOf(allowed ...string) *choice { return &choice{allowed[0], allowed} }

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	return enc.Encode(v)
}
