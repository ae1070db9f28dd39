// Command cluster brings up a one-node Kubernetes cluster on this machine for development and for the end-to-end suite,
// and takes it down again. make cluster, make cluster-down, make e2e and make image call it.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/metamorph-k8s/metamorph/test/cluster/node"
)

const usage = `Usage: cluster COMMAND

  up             bring up a cluster on this machine, with the images that Metamorph and its sets need
  down           take it down
  load           build Metamorph's image anew and give it to the cluster
  e2e [FLAGS]    run the end-to-end suite, with flags of go test: on the cluster that METAMORPH_E2E_KUBECONFIG
                 names, or else on one of its own
  image [-o FILE] [-tag TAG]
                 write Metamorph's image as docker load reads it
`

// metamorphImage is the image that is built here, with a name that no registry has.
const metamorphImage = "docker.io/metamorph/metamorph:local"

func main() {
	if node.Inside(os.Args) {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(1) // it has said why
	case err != nil:
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// session is one run of the command.
type session struct {
	root   string // of Metamorph's source
	caches string
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errors.New("a command is expected")
	}
	caches, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	mod, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/metamorph-k8s/metamorph").Output()
	if err != nil {
		return fmt.Errorf("finding Metamorph's source: %w", err)
	}
	s := &session{root: strings.TrimSpace(string(mod)), caches: filepath.Join(caches, "metamorph")}
	cluster := &node.Cluster{Dir: filepath.Join(s.caches, "cluster"), Progress: os.Stderr}
	switch command, args := args[0], args[1:]; command {
	case "up":
		if err := s.up(ctx, cluster); err != nil {
			return err
		}
		fmt.Printf("export KUBECONFIG=%s\n", cluster.Kubeconfig())
		return nil
	case "down":
		return cluster.Down(ctx)
	case "load":
		path, err := s.maker().Metamorph(ctx, metamorphImage, s.version(ctx))
		if err != nil {
			return err
		}
		return cluster.Load(ctx, path)
	case "e2e":
		return s.e2e(ctx, args)
	case "image":
		return s.image(ctx, args)
	default:
		fmt.Fprint(os.Stderr, usage)
		return fmt.Errorf("unknown command %q", command)
	}
}

// up brings a cluster up. The images are made first: they are what is most likely to fail.
func (s *session) up(ctx context.Context, cluster *node.Cluster) error {
	images, err := s.images(ctx)
	if err != nil {
		return err
	}
	if err := cluster.Up(ctx); err != nil {
		return err
	}
	return cluster.Load(ctx, images...)
}

// e2e runs the suite.
func (s *session) e2e(ctx context.Context, flags []string) (err error) {
	env, suites := os.Environ(), []string{"./e2e"}
	if os.Getenv("METAMORPH_E2E_KUBECONFIG") == "" {
		dir, err := os.MkdirTemp("", "metamorph-e2e-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		cluster := &node.Cluster{Dir: filepath.Join(dir, "cluster"), Progress: os.Stderr, Tied: true}
		defer func() {
			// Whoever interrupts wants it to be gone, too.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
			defer cancel()
			err = errors.Join(err, cluster.Down(ctx))
		}()
		if err := s.up(ctx, cluster); err != nil {
			return err
		}
		env = append(env, "METAMORPH_E2E_KUBECONFIG="+cluster.Kubeconfig(), "METAMORPH_E2E_IMAGE="+metamorphImage)
		// What brings clusters up here is tried here.
		suites = append(suites, "./node")
	}
	var failed error
	for _, suite := range suites {
		failed = errors.Join(failed, s.suite(ctx, suite, env, flags))
	}
	return failed
}

// suite compiles and runs the tests of a package. They are run without go test in between, which would keep an interrupt to
// itself.
func (s *session) suite(ctx context.Context, pkg string, env, flags []string) error {
	dir := filepath.Join(s.root, "test", "cluster", pkg)
	program, err := os.CreateTemp("", "metamorph-suite-")
	if err != nil {
		return err
	}
	program.Close()
	defer os.Remove(program.Name())
	build := exec.CommandContext(ctx, "go", "test", "-c", "-tags=e2e", "-o", program.Name(), ".")
	build.Dir, build.Stdout, build.Stderr = dir, os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		return err
	}
	args := []string{"-test.v", "-test.timeout=30m"}
	for _, f := range flags {
		if name, ok := strings.CutPrefix(f, "-"); ok {
			f = "-test." + strings.TrimPrefix(name, "-")
		}
		args = append(args, f)
	}
	cmd := exec.CommandContext(ctx, program.Name(), args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, os.Stdout, os.Stderr
	// So that the suite can clean up.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Minute
	return cmd.Run()
}

func (s *session) image(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	out := flags.String("o", filepath.Join(s.root, "dist", "metamorph.tar"), "file to write")
	version := s.version(ctx)
	tag := flags.String("tag", "metamorph/metamorph:"+version, "name and tag of the image")
	if err := flags.Parse(args); err != nil {
		return err
	}
	path, err := s.maker().Metamorph(ctx, *tag, version)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(*out), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(*out, text, 0o644); err != nil {
		return err
	}
	fmt.Println(*out)
	return nil
}

// version is what the program says of itself.
func (s *session) version(ctx context.Context) string {
	cmd := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty")
	cmd.Dir = s.root
	out, err := cmd.Output()
	if v := string(bytes.TrimSpace(out)); err == nil && v != "" {
		return v
	}
	return "v0.0.0-development"
}
