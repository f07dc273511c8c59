package bitbucket

import "context"

type askerKey struct{}

// AskedBy has the calls that are made with the context be for a person, whose id it is: what one of them asks for must not use up
// what all have together. Without it they are for nobody in particular, as a job's are.
func AskedBy(ctx context.Context, person string) context.Context {
	return context.WithValue(ctx, askerKey{}, person)
}

func askerOf(ctx context.Context) string {
	person, _ := ctx.Value(askerKey{}).(string)
	return person
}
