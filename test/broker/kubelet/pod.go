package kubelet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// Pod is one pod of a StatefulSet. It can be started again after it has ended: as a new pod, or in place.
type Pod struct {
	Name    string
	Labels  map[string]string
	Ordinal int

	namespace  *Namespace
	set        *appsv1.StatefulSet
	endpoint   endpoint
	dir        string
	mounted    map[string]string
	containers map[string]*process
}

// InitError is the end of an init container that did not succeed.
type InitError struct {
	Pod, Container string
	Code           int
	// Termination is what it wrote to /dev/termination-log, and Log what it printed.
	Termination, Log string
}

func (e *InitError) Error() string {
	return fmt.Sprintf("pod %s: init container %s ended with %d: %s\n%s", e.Pod, e.Container, e.Code, e.Termination, e.Log)
}

// process is a container that was started.
type process struct {
	spec        spec
	log         string
	termination string
	cmd         *exec.Cmd
	ended       chan struct{}
}

// Addr is the pod's address.
func (p *Pod) Addr() netip.Addr { return p.endpoint.addr }

// Start starts the pod as a new one: volumes but the claims are empty, and the init containers run. It returns when the
// containers have been started.
func (p *Pod) Start(ctx context.Context) error {
	n := p.namespace
	p.dir = filepath.Join(n.dir, "pods", p.Name+"."+strconv.FormatInt(n.names.Add(1), 10))
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	if err := p.etc(); err != nil {
		return err
	}
	var err error
	if p.mounted, err = p.volumes(p.dir); err != nil {
		return fmt.Errorf("pod %s: %w", p.Name, err)
	}
	clear(p.containers)
	spec := &p.set.Spec.Template.Spec
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if err := p.run(c); err != nil {
			return err
		}
		proc := p.containers[c.Name]
		select {
		case <-proc.ended:
		case <-ctx.Done():
			p.Kill()
			return fmt.Errorf("pod %s: init container %s: %w\n%s", p.Name, c.Name, context.Cause(ctx), p.Log(c.Name))
		}
		if code := proc.cmd.ProcessState.ExitCode(); code != 0 {
			return &InitError{Pod: p.Name, Container: c.Name, Code: code, Termination: proc.terminationMessage(), Log: p.Log(c.Name)}
		}
	}
	return p.Restart()
}

// Restart starts the containers that do not run, in the same pod: what is in its volumes stays, and no init container
// runs.
func (p *Pod) Restart() error {
	for i := range p.set.Spec.Template.Spec.Containers {
		c := &p.set.Spec.Template.Spec.Containers[i]
		if proc := p.containers[c.Name]; proc != nil && proc.running() {
			continue
		}
		if err := p.run(c); err != nil {
			return err
		}
	}
	return nil
}

// run starts a container.
func (p *Pod) run(c *corev1.Container) error {
	s, err := p.containerSpec(c)
	if err != nil {
		return fmt.Errorf("pod %s: container %s: %w", p.Name, c.Name, err)
	}
	dir := filepath.Join(p.dir, c.Name)
	s.Root, s.TerminationTo = filepath.Join(dir, "root"), filepath.Join(dir, "termination-log")
	if err := os.MkdirAll(s.Root, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(s.TerminationTo, nil, 0o666); err != nil {
		return err
	}
	// Whatever the umask.
	if err := os.Chmod(s.TerminationTo, 0o666); err != nil {
		return err
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "spec.json")
	if err := os.WriteFile(file, raw, 0o644); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self) //nolint:noctx // a container ends when its pod is told to
	cmd.Env = []string{specVariable + "=" + file}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC}
	if err := within(p.endpoint.ns, cmd.Start); err != nil {
		return fmt.Errorf("pod %s: container %s: %w", p.Name, c.Name, err)
	}
	proc := &process{spec: s, log: log.Name(), termination: s.TerminationTo, cmd: cmd, ended: make(chan struct{})}
	p.containers[c.Name] = proc
	go func() {
		defer close(proc.ended)
		// How it ended is in its state.
		_ = cmd.Wait()
	}()
	return nil
}

func (p *Pod) containerSpec(c *corev1.Container) (spec, error) {
	image, err := p.namespace.Images(c.Image)
	if err != nil {
		return spec{}, err
	}
	env, err := p.env(c, image)
	if err != nil {
		return spec{}, err
	}
	s := spec{Hostname: p.Name, Env: env, UID: p.namespace.User, WorkDir: "/"}
	if image.WorkDir != "" {
		s.WorkDir = image.WorkDir
	}
	if c.WorkingDir != "" {
		s.WorkDir = c.WorkingDir
	}
	values := map[string]string{}
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		values[k] = v
	}
	for _, word := range append(append([]string{}, c.Command...), c.Args...) {
		s.Command = append(s.Command, expand(word, values))
	}
	if len(c.Command) == 0 {
		return spec{}, errors.New("no command; an image's own is not known here")
	}
	for to, from := range image.Mounts {
		// One by one, so that there is a place for volumes beside them.
		entries, err := os.ReadDir(from)
		if err != nil {
			return spec{}, err
		}
		for _, entry := range entries {
			s.Mounts = append(s.Mounts, mount{From: filepath.Join(from, entry.Name()), To: filepath.Join(to, entry.Name()), ReadOnly: true})
		}
	}
	s.Mounts = append(s.Mounts, p.etcMounts()...)
	for _, m := range c.VolumeMounts {
		from, ok := p.mounted[m.Name]
		if !ok || m.SubPath != "" {
			return spec{}, fmt.Errorf("mount %s: no volume %s, or a part of one", m.MountPath, m.Name)
		}
		s.Mounts = append(s.Mounts, mount{From: from, To: m.MountPath, ReadOnly: m.ReadOnly})
	}
	p.security(c, &s)
	return s, nil
}

func (p *Pod) security(c *corev1.Container, s *spec) {
	if own := c.SecurityContext; own != nil {
		s.ReadOnly = own.ReadOnlyRootFilesystem != nil && *own.ReadOnlyRootFilesystem
		s.NoNewPrivs = own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation
	}
	all := p.set.Spec.Template.Spec.SecurityContext
	if p.namespace.User >= 0 || all == nil {
		s.UID = -1
		return
	}
	s.UID, s.GID = 0, 0
	if all.RunAsUser != nil {
		s.UID = int(*all.RunAsUser)
	}
	if all.RunAsGroup != nil {
		s.GID = int(*all.RunAsGroup)
	}
	if all.FSGroup != nil {
		s.Groups = []int{int(*all.FSGroup)}
	}
}

// env is the image's and then the container's own.
func (p *Pod) env(c *corev1.Container, image Image) ([]string, error) {
	if len(c.EnvFrom) > 0 {
		return nil, errors.New("envFrom is not known here")
	}
	out := append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home/appuser", "HOSTNAME=" + p.Name}, image.Env...)
	values := map[string]string{}
	for _, e := range c.Env {
		value := expand(e.Value, values)
		if from := e.ValueFrom; from != nil {
			if from.FieldRef == nil {
				return nil, fmt.Errorf("env %s: no fieldRef, and nothing else is known here", e.Name)
			}
			var err error
			if value, err = p.field(from.FieldRef.FieldPath); err != nil {
				return nil, fmt.Errorf("env %s: %w", e.Name, err)
			}
		}
		values[e.Name] = value
		out = append(out, e.Name+"="+value)
	}
	return out, nil
}

// expand replaces $(NAME) by a variable, if there is one; $$ stands for $.
func expand(text string, values map[string]string) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		if after, ok := strings.CutPrefix(rest, "$"); ok {
			out.WriteString("$")
			text = after
			continue
		}
		if inner, ok := strings.CutPrefix(rest, "("); ok {
			if name, after, closed := strings.Cut(inner, ")"); closed {
				if value, known := values[name]; known {
					out.WriteString(value)
				} else {
					out.WriteString("$(" + name + ")")
				}
				text = after
				continue
			}
		}
		out.WriteString("$")
		text = rest
	}
}

func (c *process) running() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

func (c *process) terminationMessage() string {
	raw, err := os.ReadFile(c.termination)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(raw))
}

// Said is all that can be read of the pod by whoever may not read Secrets: what its containers have printed and written to
// their termination logs, and the arguments and variables that they were started with.
func (p *Pod) Said() map[string]string {
	out := map[string]string{}
	for name, proc := range p.containers {
		out[name+"'s log"] = p.Log(name)
		out[name+"'s termination message"] = proc.terminationMessage()
		out[name+"'s command"] = strings.Join(proc.spec.Command, " ")
		out[name+"'s environment"] = strings.Join(proc.spec.Env, " ")
		if proc.running() {
			// What its script made of them. A process that has just ended says nothing.
			for _, file := range []string{"cmdline", "environ"} {
				raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", proc.cmd.Process.Pid, file))
				out[name+"'s "+file] = string(raw)
			}
		}
	}
	return out
}

// Log is what a container has printed.
func (p *Pod) Log(container string) string {
	proc := p.containers[container]
	if proc == nil {
		return ""
	}
	raw, err := os.ReadFile(proc.log)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// Main is the name of the set's main container.
func (p *Pod) Main() string { return p.set.Spec.Template.Spec.Containers[0].Name }

// Ended is an error if the main container has ended.
func (p *Pod) Ended() error {
	proc := p.containers[p.Main()]
	if proc == nil || proc.running() {
		return nil
	}
	return fmt.Errorf("pod %s: container %s ended with %s: %s\n%s", p.Name, p.Main(), proc.cmd.ProcessState, proc.terminationMessage(), tail(p.Log(p.Main()), 60))
}

func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Kill ends all containers at once, as a machine does that fails.
func (p *Pod) Kill() {
	for _, proc := range p.containers {
		if proc.running() {
			// It may have ended in between.
			_ = proc.cmd.Process.Kill()
		}
		<-proc.ended
	}
}

// Stop asks the containers to end, waits for as long as the pod's grace period says, and returns the main one's exit code.
func (p *Pod) Stop(ctx context.Context) (int, error) {
	grace := 30 * time.Second
	if s := p.set.Spec.Template.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	defer p.Kill()
	for _, proc := range p.containers {
		if proc.running() {
			_ = proc.cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	main := p.containers[p.Main()]
	if main == nil {
		return 0, fmt.Errorf("pod %s does not run", p.Name)
	}
	select {
	case <-main.ended:
		return main.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("pod %s has not ended within its grace period: %w", p.Name, ctx.Err())
	}
}

// Environ is the environment of the main container's first process as it is now, after all that its script exported.
func (p *Pod) Environ() (map[string]string, error) {
	proc := p.containers[p.Main()]
	if proc == nil || !proc.running() {
		return nil, fmt.Errorf("pod %s does not run", p.Name)
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", proc.cmd.Process.Pid))
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for e := range strings.SplitSeq(string(raw), "\x00") {
		if k, v, ok := strings.Cut(e, "="); ok {
			out[k] = v
		}
	}
	return out, nil
}

// Exec runs a command in the main container, as kubectl exec does.
func (p *Pod) Exec(ctx context.Context, command ...string) ([]byte, error) {
	proc := p.containers[p.Main()]
	if proc == nil || !proc.running() {
		return nil, fmt.Errorf("pod %s does not run", p.Name)
	}
	args := []string{"--target", strconv.Itoa(proc.cmd.Process.Pid), "--mount", "--pid", "--net", "--uts", "--ipc"}
	if proc.spec.UID >= 0 {
		args = append(args, "--setuid", strconv.Itoa(proc.spec.UID), "--setgid", strconv.Itoa(proc.spec.GID))
	}
	cmd := exec.CommandContext(ctx, "nsenter", append(append(args, "--"), command...)...)
	cmd.Env = proc.spec.Env
	return cmd.CombinedOutput()
}

// Probe does what a probe of the main container says, once.
func (p *Pod) Probe(ctx context.Context, probe *corev1.Probe) error {
	timeout := time.Second
	if probe.TimeoutSeconds > 0 {
		timeout = time.Duration(probe.TimeoutSeconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case probe.TCPSocket != nil:
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(p.Addr().String(), probe.TCPSocket.Port.String()))
		if err != nil {
			return err
		}
		return conn.Close()
	case probe.Exec != nil:
		out, err := p.Exec(ctx, probe.Exec.Command...)
		if err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(probe.Exec.Command, " "), err, bytes.TrimSpace(out))
		}
		return nil
	}
	return errors.New("a kind of probe that is not known here")
}

// WaitReady waits until the main container's readiness probe succeeds. It fails at once if that container ends.
func (p *Pod) WaitReady(ctx context.Context) error {
	return p.wait(ctx, "ready", p.set.Spec.Template.Spec.Containers[0].ReadinessProbe)
}

// WaitEnded waits until the main container has ended by itself, and tells how.
func (p *Pod) WaitEnded(ctx context.Context) error {
	proc := p.containers[p.Main()]
	if proc == nil {
		return fmt.Errorf("pod %s does not run", p.Name)
	}
	select {
	case <-proc.ended:
		return p.Ended()
	case <-ctx.Done():
		return fmt.Errorf("pod %s has not ended: %w", p.Name, context.Cause(ctx))
	}
}

// CheckAlive does the startup and the liveness probe of the main container.
func (p *Pod) CheckAlive(ctx context.Context) error {
	c := &p.set.Spec.Template.Spec.Containers[0]
	return errors.Join(p.wait(ctx, "started", c.StartupProbe), p.wait(ctx, "alive", c.LivenessProbe))
}

func (p *Pod) wait(ctx context.Context, what string, probe *corev1.Probe) error {
	retry := time.NewTicker(250 * time.Millisecond)
	defer retry.Stop()
	for {
		err := p.Probe(ctx, probe)
		if err == nil {
			return nil
		}
		if ended := p.Ended(); ended != nil {
			return ended
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("pod %s is not %s: %w: %w\n%s", p.Name, what, context.Cause(ctx), err, tail(p.Log(p.Main()), 60))
		case <-retry.C:
		}
	}
}

// Replace puts another volume, with only these files, in the place of a claim's. The function that it returns puts the
// old one back.
func (p *Pod) Replace(claim string, files map[string]string) (restore func() error, err error) {
	at := p.Claim(claim)
	old := at + ".old"
	if err := os.Rename(at, old); err != nil {
		return nil, err
	}
	restore = func() error { return errors.Join(os.RemoveAll(at), os.Rename(old, at)) }
	if err := p.provision(at); err != nil {
		return restore, err
	}
	for name, text := range files {
		file := filepath.Join(at, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			return restore, err
		}
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			return restore, err
		}
	}
	return restore, nil
}

// Files lists the files of a claim, to tell whether something was written there.
func (p *Pod) Files(claim string) (map[string]int64, error) {
	out := map[string]int64{}
	err := filepath.WalkDir(p.Claim(claim), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			out[path] = info.Size()
		}
		return err
	})
	return out, err
}
