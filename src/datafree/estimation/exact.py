"""The exact part: what a student's accuracy can be at all, by how often it differs from its teacher.

With d the share of real inputs on which the two name different classes, and p_T and p_S how often each is right there,
acc_S = acc_T - d (p_T - p_S): no assumption, and so acc_S is within d of acc_T.
"""


def bounds(teacher: float, agreement: float) -> tuple[float, float]:
    """Least and largest accuracy, percent, of a student that agrees on `agreement` percent with a teacher of that accuracy."""
    apart = 100 - agreement
    return max(0.0, teacher - apart), min(100.0, teacher + apart)
