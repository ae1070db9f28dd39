package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/metamorph-k8s/metamorph/pkg/companion"
)

type purgeFlags struct {
	namespace, kubeconfig string
	yes, dryRun           bool
}

func newPurge() *cobra.Command {
	var o purgeFlags
	cmd := &cobra.Command{
		Use:   "purge NAME",
		Short: "Delete what a deleted cluster left on purpose: its data and its passwords",
		Long: `Delete what outlives a StatefulSet on purpose, so that a cluster that is applied again has its data back: the claims
of its data volumes, the Secret NAME-sasl whose passwords the volumes are formatted with, and the ConfigMap NAME-state
that records which nodes were ever ready; of the ensemble NAME-zookeeper, if there was one, the same.

The StatefulSet must have been deleted before. What Metamorph did not make is listed, and left alone. Whether the data
itself goes with a claim is for the reclaim policy of its volume.`,
		Example: `  kubectl delete statefulset events
  metamorph purge events`,
		Args: cobra.ExactArgs(1),
		RunE: runs(func(cmd *cobra.Command, args []string) error { return purge(cmd, args[0], o) }),
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "namespace of the cluster; default from the kubeconfig")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig file; without it the pod's service account, else what kubectl would take")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.dryRun, "dry-run", false, "only list what would be deleted")
	return cmd
}

func purge(cmd *cobra.Command, name string, o purgeFlags) error {
	config, err := restConfig(o.kubeconfig)
	if err != nil {
		return usage(fmt.Errorf("finding the cluster: %w", err))
	}
	if o.namespace == "" {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = o.kubeconfig
		if o.namespace, _, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).Namespace(); err != nil {
			return usage(err)
		}
	}
	c, err := companion.NewClient(config)
	if err != nil {
		return err
	}
	report := cmd.ErrOrStderr()
	find := func() ([]companion.Remain, error) {
		all, err := companion.Leftovers(cmd.Context(), c, o.namespace, name)
		var inUse *companion.InUseError
		if errors.As(err, &inUse) {
			err = &exitError{exitRefused, err}
		}
		return all, err
	}
	all, err := find()
	if err != nil {
		return err
	}
	var ours []companion.Remain
	for _, r := range all {
		if r.Kept != "" {
			fmt.Fprintf(report, "%s is left alone: %s\n", r, r.Kept)
		} else {
			ours = append(ours, r)
		}
	}
	if len(ours) == 0 {
		fmt.Fprintf(report, "Nothing of %s is left in namespace %s that could be deleted.\n", name, o.namespace)
		return nil
	}
	if o.dryRun || !o.yes {
		for _, r := range ours {
			fmt.Fprintln(cmd.OutOrStdout(), r)
		}
	}
	if o.dryRun {
		return nil
	}
	if !o.yes {
		sure, err := confirm(cmd.InOrStdin(), report, fmt.Sprintf("Delete these %d objects in namespace %s? The data cannot be read again without the passwords. [y/N] ", len(ours), o.namespace))
		if err != nil {
			return usage(err)
		}
		if !sure {
			fmt.Fprintln(report, "Nothing was deleted.")
			return &exitError{exitRefused, nil}
		}
		// Somebody may have applied the cluster again while the question stood.
		again, err := find()
		if err != nil {
			return err
		}
		if !companion.Same(all, again) {
			return &exitError{exitRefused, errors.New("what is left has changed meanwhile, and nothing was deleted; see again")}
		}
	}
	for _, r := range ours {
		if err := companion.Remove(cmd.Context(), c, r); err != nil {
			return fmt.Errorf("deleting %s: %w", r, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s deleted\n", r)
	}
	return nil
}

// confirm asks a person. An input that ends without an answer, as in a script, is none.
func confirm(in io.Reader, out io.Writer, question string) (bool, error) {
	fmt.Fprint(out, question)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if f, ok := in.(*os.File); err != nil && (!ok || !term.IsTerminal(int(f.Fd()))) { //nolint:gosec // A file descriptor.
		fmt.Fprintln(out)
		return false, errors.New("there is nobody to ask; say --yes to delete without asking")
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
