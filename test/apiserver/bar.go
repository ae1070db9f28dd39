package apiserver

import (
	"fmt"
	"io"
	"os"
	"time"
)

// bar tells how far a long build is: in one line that is written over on a terminal, in a line every few seconds
// elsewhere.
type bar struct {
	out      io.Writer
	what     string
	total    int
	done     int
	terminal bool
	every    time.Duration
	last     time.Time
}

func newBar(out io.Writer, what string, total int) *bar {
	b := &bar{out: out, what: what, total: total, every: 5 * time.Second, last: time.Now()}
	if f, ok := out.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			b.terminal, b.every = true, 200*time.Millisecond
		}
	}
	return b
}

func (b *bar) step() {
	b.done++
	if now := time.Now(); now.Sub(b.last) >= b.every {
		b.last = now
		b.print()
	}
}

func (b *bar) print() {
	// What is stale can grow while it is being built; more than all would look odd.
	total := max(b.total, b.done)
	line := fmt.Sprintf("%s: %d of %d packages compiled (%d%%)", b.what, b.done, total, 100*b.done/max(total, 1))
	if b.terminal {
		fmt.Fprintf(b.out, "\r%s\x1b[K", line)
		return
	}
	fmt.Fprintln(b.out, line)
}

func (b *bar) end() {
	if b.terminal && b.done > 0 {
		b.print()
		fmt.Fprintln(b.out)
	}
}
