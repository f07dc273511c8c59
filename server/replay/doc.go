// Package replay asks a git repository what it knows about a change that was
// signed: whether its commits exist, whether the diff shown is the change, and
// how what landed relates to what was signed. It judges nothing; package
// evidence does.
//
// The repository may be hostile. Its configuration, hooks, attributes, replace
// refs, grafts and helpers are never read by git: every command runs in a bare
// repository of our own in a temporary folder, which is deleted at the end. The
// first such repository borrows the objects of the one that was given, and only
// lists and packs them. The second takes in that pack and computes every
// object's name itself, so that an object under a wrong name is an object that
// is missing; all questions are put to the second. Nothing is written to the
// repository that was given, and nothing reaches the network.
package replay
