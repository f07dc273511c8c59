// Package witness makes the log's tree heads public: it signs checkpoints and keeps them where the database's
// operator cannot quietly take them back.
//
// A checkpoint is published when it is in the sink and then on record, in this order. Nothing is
// published that is not consistent with what was: before each publication the tree must still have the
// root of the newest checkpoint on record and of the newest one in the sink. A tree that is behind
// them, as after a database was restored from a backup, or that has another root at their size, is
// refused until a person has looked at it.
package witness
