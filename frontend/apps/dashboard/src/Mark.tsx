import { Icon } from "@signedapproval/ui/Icon";
import "./Mark.css";

/** The product's mark: a seal with a check. */
export function Mark() {
  return (
    <span className="mark">
      <Icon name="check" />
    </span>
  );
}
