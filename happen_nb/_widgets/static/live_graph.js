// The graph.

export default { render: (context) => showPicture(context) };
