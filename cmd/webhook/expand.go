package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/metamorph-k8s/metamorph/pkg/manifest"
)

func newExpand() *cobra.Command {
	var files []string
	var companions bool
	o := manifest.Options{Version: currentVersion()}
	output := oneOf("yaml", "json")
	cmd := &cobra.Command{
		Use:   "expand -f FILE|DIR|-",
		Short: "Print what the webhook would make of manifests",
		Long: `Expand every annotated StatefulSet in the manifests, inside Lists too, the way the webhook does it. All else passes
through as it was written, so that it works in a pipe before kubectl.

Namespaces among the manifests, and ConfigMaps labelled metamorph.dev/profile, give their defaults as they do in the
cluster. Of a folder, *.yaml, *.yml and *.json are read, in the order of their names.

If anything is refused, every reason is told and nothing is printed.`,
		Example: `  # See what three lines become, and why
  metamorph expand -f kafka.yaml --explain

  # Apply without the webhook
  metamorph expand -f manifests/ --cluster-uid "$(kubectl get ns kube-system -o jsonpath='{.metadata.uid}')" | kubectl apply -f -

  # With the Services and all else that the controller in a cluster makes beside the StatefulSets
  metamorph expand -f kafka.yaml --companions

  # As the last step of a pipe
  kustomize build . | metamorph expand -f - -o json`,
		Args: cobra.NoArgs,
		RunE: runs(func(cmd *cobra.Command, _ []string) error {
			return expand(cmd, files, output.value, companions, o)
		}),
	}
	f := cmd.Flags()
	f.StringArrayVarP(&files, "filename", "f", nil, "file, folder, or - for the standard input; can be repeated")
	f.VarP(output, "output", "o", "yaml or json")
	f.BoolVar(&companions, "companions", false, "print what is needed beside the StatefulSets, too, but for Secrets, which are named on the standard error")
	f.BoolVar(&o.Explain, "explain", false, "tell on the standard error where every field came from")
	f.StringVarP(&o.Namespace, "namespace", "n", "default", "namespace of the objects that name none")
	f.StringVar(&o.ClusterUID, "cluster-uid", "", "UID of the cluster's namespace kube-system, which the cluster ids are derived from")
	return cmd
}

func expand(cmd *cobra.Command, files []string, output string, companions bool, o manifest.Options) error {
	if len(files) == 0 {
		return usage(errors.New("say with -f what to expand: a file, a folder, or - for the standard input"))
	}
	docs, err := manifest.Read(files, cmd.InOrStdin())
	if err != nil {
		return usage(err)
	}
	docs, outcomes, err := manifest.Expand(docs, o)
	if err != nil {
		return usage(err)
	}
	report := cmd.ErrOrStderr()
	if companions {
		more, ensembles, notes, err := manifest.Companions(docs, outcomes, o)
		if err != nil {
			return usage(err)
		}
		docs, outcomes = append(docs, more...), append(outcomes, ensembles...)
		for _, note := range notes {
			fmt.Fprintf(report, "%s %s\n", paint(report, yellow, "Note:"), note)
		}
	}
	printWarnings(report, outcomes)
	if printRefusals(report, outcomes) {
		return &exitError{exitRefused, nil}
	}
	if o.Explain {
		if err := printFields(report, outcomes); err != nil {
			return err
		}
	}
	if output == "json" {
		return manifest.WriteJSON(cmd.OutOrStdout(), docs)
	}
	return manifest.WriteYAML(cmd.OutOrStdout(), docs)
}

// printWarnings prints warnings like kubectl, and with several objects each one's name.
func printWarnings(w io.Writer, outcomes []manifest.Outcome) {
	for _, o := range outcomes {
		if o.Output == nil {
			continue
		}
		whose := ""
		if len(outcomes) > 1 {
			whose = o.Name + ": "
		}
		for _, warning := range o.Output.Warnings {
			fmt.Fprintf(w, "%s %s%s\n", paint(w, yellow, "Warning:"), whose, warning)
		}
	}
}

// printRefusals prints refusals like kubectl, with the place, and tells whether there are any.
func printRefusals(w io.Writer, outcomes []manifest.Outcome) bool {
	refused := false
	for _, o := range outcomes {
		if o.Refused != nil {
			refused = true
			first, rest, _ := strings.Cut(o.Refused.Error(), "\n")
			fmt.Fprintf(w, "%s: %s\n%s\n", o.Where, paint(w, red, first), rest)
		}
	}
	return refused
}

// printFields prints a table for every object: where it came from, field = value. The fields are too long for a column
// that something could stand behind.
func printFields(w io.Writer, outcomes []manifest.Outcome) error {
	for _, o := range outcomes {
		fmt.Fprintf(w, "%s\n", paint(w, bold, fmt.Sprintf("# StatefulSet %s (%s)", o.Name, o.Where)))
		if len(o.Output.Fields) == 0 {
			fmt.Fprintln(w, "# was expanded before; its annotations metamorph.dev/source and metamorph.dev/settings tell from what")
		}
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, f := range o.Output.Fields {
			fmt.Fprintf(table, "%s\t%s\n", f.Why(), strings.TrimSuffix(f.String(), "  ← "+f.Why()))
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}
