package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// stopTimeout is what a process may take to end after it has been asked to.
const stopTimeout = 10 * time.Second

// process is a command that runs beside the demonstration. What it says is kept, to be shown if something fails.
type process struct {
	done chan struct{}
	err  error // valid once done is closed
	stop context.CancelFunc

	mu  sync.Mutex
	log bytes.Buffer
}

func start(ctx context.Context, name string, args ...string) (*process, error) {
	ctx, stop := context.WithCancel(ctx)
	p := &process{done: make(chan struct{}), stop: stop}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = p, p
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopTimeout
	if err := cmd.Start(); err != nil {
		stop()
		return nil, err
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Stop ends the process and waits for it.
func (p *process) Stop() {
	p.stop()
	<-p.done
}

// Write keeps what the process says.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

// said is the last that the process said.
func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(p.log.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// alive is an error once the process has ended by itself.
func (p *process) alive() error {
	select {
	case <-p.done:
		return fmt.Errorf("it ended: %w; it said:\n%s", cmp.Or(p.err, errors.New("exit status 0")), p.said())
	default:
		return nil
	}
}
